"""`surgery rules`: list the shipped rulesets, show one, or check a file."""

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


Vocabulary = Annotated[
    bool, typer.Option("--vocabulary", help="List the operations and kinds that rules are written with.")
]


def rules(
    name: RuleSetName = None,
    vocabulary: Vocabulary = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """List the shipped rulesets, show one, or check a file.

    \b
    surgery rules
    surgery rules linearize
    surgery rules mine.toml
    surgery rules --vocabulary
    """
    out = Output(as_json=as_json, debug=debug)
    with out.working("loading torch"):
        from surgery.rewrite import load_rules, shipped_rulesets
    from surgery_cli.show import rulesets as view

    if vocabulary:
        out.data(view.vocabulary_dict())
        out.show(view.vocabulary_view())
        return
    if name is None:
        found = [load_rules(item) for item in shipped_rulesets()]
        out.data({"rulesets": [view.summary_dict(item) for item in found]})
        out.show(*view.listing(found))
        return
    ruleset = load_rules(name)
    out.data(view.ruleset_dict(ruleset))
    out.show(*view.ruleset_view(ruleset))
