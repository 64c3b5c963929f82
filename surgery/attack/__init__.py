"""Gradient attacks as values, one projected-gradient loop, evaluations with checks, and the confusion matrix."""

from surgery.attack.attack import STARTS as STARTS
from surgery.attack.attack import STEP_RULES as STEP_RULES
from surgery.attack.attack import Attack as Attack
from surgery.attack.attack import cw as cw
from surgery.attack.attack import fgsm as fgsm
from surgery.attack.attack import pgd as pgd
from surgery.attack.checks import Check as Check
from surgery.attack.checks import EvaluationWarning as EvaluationWarning
from surgery.attack.chunks import Chunks as Chunks
from surgery.attack.confusion import Confusion as Confusion
from surgery.attack.confusion import confusion_matrix as confusion_matrix
from surgery.attack.engine import PLAIN as PLAIN
from surgery.attack.engine import Engine as Engine
from surgery.attack.evaluation import evaluate as evaluate
from surgery.attack.evaluation import perturb as perturb
from surgery.attack.losses import LOSSES as LOSSES
from surgery.attack.norms import NORMS as NORMS
from surgery.attack.outcomes import Evaluation as Evaluation
from surgery.attack.outcomes import Outcome as Outcome
from surgery.attack.outcomes import Paired as Paired
from surgery.attack.parsing import pixels as pixels
from surgery.attack.search import search as search
from surgery.attack.settings import KINDS as KINDS
from surgery.attack.settings import attack_from as attack_from
from surgery.attack.starts import random_start as random_start
