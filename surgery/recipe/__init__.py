"""Recipes: TOML files that chain training, surgery and attacks; checked as a whole, planned, and run."""

from surgery.recipe.cost import Sizes as Sizes
from surgery.recipe.keys import StageRecord as StageRecord
from surgery.recipe.keys import stage_keys as stage_keys
from surgery.recipe.keys import stage_records as stage_records
from surgery.recipe.loading import load_recipe as load_recipe
from surgery.recipe.loading import shipped as shipped
from surgery.recipe.planning import PlannedStage as PlannedStage
from surgery.recipe.planning import plan_run as plan_run
from surgery.recipe.problems import Problem as Problem
from surgery.recipe.problems import RecipeError as RecipeError
from surgery.recipe.recipe import Input as Input
from surgery.recipe.recipe import Recipe as Recipe
from surgery.recipe.recipe import Stage as Stage
from surgery.recipe.schema import schema as schema
