"""Training: objectives with the cluster penalty, schedules, averaging, and a loop that resumes where it was stopped."""

from surgery import namespace
from surgery.train.averaging import Averaging as Averaging
from surgery.train.averaging import ExponentialAverage as ExponentialAverage
from surgery.train.averaging import StochasticAverage as StochasticAverage
from surgery.train.awp import WeightPerturbation as WeightPerturbation
from surgery.train.checkpointing import Checkpoints as Checkpoints
from surgery.train.config import Optimizer as Optimizer
from surgery.train.config import TrainingConfig as TrainingConfig
from surgery.train.engine import PLAIN as PLAIN
from surgery.train.engine import Engine as Engine
from surgery.train.fit import fit as fit
from surgery.train.objective import Objective as Objective
from surgery.train.penalty import ClusterPenalty as ClusterPenalty
from surgery.train.records import DivergedError as DivergedError
from surgery.train.records import EpochRecord as EpochRecord
from surgery.train.records import Notice as Notice
from surgery.train.records import Progress as Progress
from surgery.train.records import Trained as Trained
from surgery.train.schedules import Constant as Constant
from surgery.train.schedules import Cosine as Cosine
from surgery.train.schedules import MultiStep as MultiStep
from surgery.train.schedules import OneCycle as OneCycle
from surgery.train.schedules import Schedule as Schedule

__dir__ = namespace.public_names(__name__)
