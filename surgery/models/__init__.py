"""The networks of the paper, architectures by name, and the loading of model files."""

from surgery import namespace
from surgery.models.checkpoint import Checkpoint as Checkpoint
from surgery.models.checkpoint import read_checkpoint as read_checkpoint
from surgery.models.checkpoint import save_checkpoint as save_checkpoint
from surgery.models.files import LoadedModel as LoadedModel
from surgery.models.files import load_model as load_model
from surgery.models.files import open_model as open_model
from surgery.models.registry import architectures as architectures
from surgery.models.registry import build as build
from surgery.models.registry import build_published as build_published
from surgery.models.registry import default_input_shape as default_input_shape

__dir__ = namespace.public_names(__name__)
