"""The rule language, matching, planning and applying."""

from surgery import namespace
from surgery.rewrite.loading import load_rules as load_rules
from surgery.rewrite.loading import shipped_rulesets as shipped_rulesets
from surgery.rewrite.planfile import load_plan as load_plan
from surgery.rewrite.planfile import save_plan as save_plan
from surgery.rewrite.planning import NearMiss as NearMiss
from surgery.rewrite.planning import Plan as Plan
from surgery.rewrite.planning import Rewrite as Rewrite
from surgery.rewrite.planning import apply as apply
from surgery.rewrite.planning import plan as plan
from surgery.rewrite.ruleset import Rule as Rule
from surgery.rewrite.ruleset import RuleSet as RuleSet

__dir__ = namespace.public_names(__name__)
