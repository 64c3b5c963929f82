"""Attacks as values, the interface for attacks of one's own, evaluations with checks, and the confusion matrix M."""

from surgery import namespace
from surgery.attack.batches import attack_batch as attack_batch
from surgery.attack.checks import Check as Check
from surgery.attack.checks import EvaluationWarning as EvaluationWarning
from surgery.attack.chunks import Chunks as Chunks
from surgery.attack.confusion import Confusion as Confusion
from surgery.attack.confusion import confusion_matrix as confusion_matrix
from surgery.attack.engine import PLAIN as PLAIN
from surgery.attack.engine import Engine as Engine
from surgery.attack.evaluation import evaluate as evaluate
from surgery.attack.evaluation import perturb as perturb
from surgery.attack.interface import AttackProtocol as AttackProtocol
from surgery.attack.interface import Iterate as Iterate
from surgery.attack.interface import check_attack_names as check_attack_names
from surgery.attack.interface import settings_of as settings_of
from surgery.attack.losses import LOSSES as LOSSES
from surgery.attack.norms import NORMS as NORMS
from surgery.attack.outcomes import Evaluation as Evaluation
from surgery.attack.outcomes import Outcome as Outcome
from surgery.attack.outcomes import Paired as Paired
from surgery.attack.outcomes import mcnemar as mcnemar
from surgery.attack.parsing import pixels as pixels
from surgery.attack.parsing import pixels_text as pixels_text
from surgery.attack.pgd import STARTS as STARTS
from surgery.attack.pgd import STEP_RULES as STEP_RULES
from surgery.attack.pgd import Attack as Attack
from surgery.attack.pgd import cw as cw
from surgery.attack.pgd import fgsm as fgsm
from surgery.attack.pgd import pgd as pgd
from surgery.attack.pgd import search as search
from surgery.attack.random_start import ImageGenerator as ImageGenerator
from surgery.attack.random_start import random_start as random_start
from surgery.attack.settings import KINDS as KINDS
from surgery.attack.settings import attack_from as attack_from
from surgery.attack.settings import attack_maker as attack_maker
from surgery.attack.settings import user_reference as user_reference
from surgery.attack.target import Target as Target

__dir__ = namespace.public_names(__name__)
