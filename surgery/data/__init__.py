"""Data sets as eight-bit tensors: published ones, image folders, a user's own, and one with a planted hierarchy."""

from surgery import namespace
from surgery.data.augmentation import Augmentation as Augmentation
from surgery.data.dataset import Dataset as Dataset
from surgery.data.dataset import Split as Split
from surgery.data.dataset import images_as_float as images_as_float
from surgery.data.planted import planted as planted
from surgery.data.sources import DATASETS as DATASETS
from surgery.data.sources import SOURCES as SOURCES
from surgery.data.sources import load as load

__dir__ = namespace.public_names(__name__)
