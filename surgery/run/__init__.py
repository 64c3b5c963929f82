"""Running a recipe: its stages one after the other into a run folder, resumed after any interruption."""

from surgery import namespace
from surgery.run.comparing import ChangedParameter as ChangedParameter
from surgery.run.comparing import PairedAccuracy as PairedAccuracy
from surgery.run.comparing import changed_parameters as changed_parameters
from surgery.run.comparing import paired_accuracies as paired_accuracies
from surgery.run.distributed import LostProcessError as LostProcessError
from surgery.run.equality import differences as differences
from surgery.run.resume import CheckedFile as CheckedFile
from surgery.run.resume import checked_files as checked_files
from surgery.run.resume import finished as finished
from surgery.run.runner import Run as Run
from surgery.run.runner import run_recipe as run_recipe
from surgery.run.runner import wanted_stages as wanted_stages
from surgery.stages import RunFolder as RunFolder
from surgery.stages import StageProgress as StageProgress

__dir__ = namespace.public_names(__name__)
