"""`surgery rules`: the shipped rulesets, one of them, or a file of the user's, checked."""

from __future__ import annotations

from typing import Annotated

import typer

from surgery_cli import completion, options
from surgery_cli.console import Output

RuleSetName = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME|FILE",
        help="A shipped ruleset, or a TOML file to check. Without one, the shipped rulesets are listed.",
        autocompletion=completion.rulesets,
        show_default=False,
    ),
]


def rules(name: RuleSetName = None, as_json: options.AsJson = False, debug: options.Debug = False) -> None:
    """List the shipped rulesets, show one, or check a file of yours.

    \b
    surgery rules
    surgery rules linearize
    surgery rules mine.toml
    """
    out = Output(as_json=as_json, debug=debug)
    with out.working("loading torch"):
        from surgery.rewrite import load_rules, shipped_rulesets
    from surgery_cli.show import rulesets as view

    if name is None:
        found = [load_rules(item) for item in shipped_rulesets()]
        out.data({"rulesets": [view.summary_dict(item) for item in found]})
        out.show(*view.listing(found))
        return
    ruleset = load_rules(name)
    out.data(view.ruleset_dict(ruleset))
    out.show(*view.ruleset_view(ruleset))
