"""Running a recipe: its stages one after the other into a run folder, resumed wherever they were stopped."""

from surgery.recipe.running.context import Report as Report
from surgery.recipe.running.context import StageProgress as StageProgress
from surgery.recipe.running.equality import differences as differences
from surgery.recipe.running.folder import RunFolder as RunFolder
from surgery.recipe.running.run import EXECUTORS as EXECUTORS
from surgery.recipe.running.run import Run as Run
from surgery.recipe.running.run import run_recipe as run_recipe
from surgery.recipe.running.run import wanted_stages as wanted_stages
from surgery.recipe.running.team import LostProcessError as LostProcessError
from surgery.recipe.running.values import load_data as load_data
from surgery.recipe.running.verdict import Verdict as Verdict
from surgery.recipe.running.verdict import verdict as verdict
