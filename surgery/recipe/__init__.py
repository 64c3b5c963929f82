"""Recipes: TOML files that chain training, surgery and attacks; loaded, checked as a whole, and previewed."""

from surgery import namespace
from surgery.recipe.fitting import load_data as load_data
from surgery.recipe.keys import StageRecord as StageRecord
from surgery.recipe.keys import stage_keys as stage_keys
from surgery.recipe.keys import stage_records as stage_records
from surgery.recipe.loading import load_recipe as load_recipe
from surgery.recipe.loading import shipped as shipped
from surgery.recipe.preview import PreviewedStage as PreviewedStage
from surgery.recipe.preview import preview_run as preview_run
from surgery.recipe.problems import Problem as Problem
from surgery.recipe.problems import RecipeError as RecipeError
from surgery.recipe.recipe import Recipe as Recipe
from surgery.recipe.schema import schema as schema
from surgery.stages import Input as Input
from surgery.stages import Sizes as Sizes
from surgery.stages import Stage as Stage

__dir__ = namespace.public_names(__name__)
