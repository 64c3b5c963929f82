"""Plan, rewrite, check the promise, write and print: the steps that `linearize` and `apply` share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import CertificateError, InputError, RuleError
from surgery.files import check_writable, existing_file
from surgery_cli.console import Output
from surgery_cli.errors import ExitCode, problem, report
from surgery_cli.loading import Opened, check_options, open_graph
from surgery_cli.options import ModelOptions

if TYPE_CHECKING:
    from surgery.graph import Graph
    from surgery.rewrite import Plan
    from surgery.rewrite.ruleset import Promise
    from surgery_cli.show.operation import Operation

Planner = Callable[["Graph"], "Plan"]
"""Makes the plan for a graph."""

PLAN_FORMATS = (".toml", ".json")


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """The destination of the result, and the way in which it is printed."""

    output: Path | None
    dry_run: bool
    keep_going: bool
    verbose: bool


def operate(
    options: ModelOptions,
    prepare: Callable[[Output], Planner],
    wanted: OutputOptions,
    out: Output,
    *,
    promise: Promise | None = None,
) -> int:
    """Open the model, plan, apply, check, write and print; return the exit code.

    `promise` is checked whatever the rules promise. Raises SurgeryError for bad input; a broken promise is printed with
    the result.
    """
    check_options(options)
    _check_destination(wanted, options.path, out)
    planner = prepare(out)
    opened = open_graph(options, out)
    with out.working("planning"):
        planned = planner(opened.graph)
    promise = promise or planned.rules.promise
    result = (_rehearse if wanted.dry_run else _carry_out)(opened, planned, promise, wanted, out)
    from surgery_cli.show import operation as view

    if out.as_json:
        error = {} if result.failure is None else {"error": problem(result.failure).as_dict()}
        out.data(view.as_dict(result) | error)
    out.show(*(view.planned if wanted.dry_run else view.done)(result, verbose=wanted.verbose))
    return _conclude(result, wanted, out)


def by_rules(names: list[str], out: Output) -> Planner:
    """Plan by rulesets. They are read before the model is opened, so that their mistakes are reported at once."""
    with out.working("loading torch"):
        from surgery.rewrite import load_rules, plan

    rules = load_rules(names)
    return lambda graph: plan(graph, rules)


def by_file(path: Path, out: Output) -> Planner:
    """Take the plan from a file."""
    existing_file(path)
    with out.working("loading torch"):
        from surgery.rewrite import load_plan

    return lambda graph: load_plan(path, graph)


def _check_destination(wanted: OutputOptions, model: Path | None, out: Output) -> None:
    """Raise InputError, before any work is done, where the output cannot be written."""
    path = wanted.output
    if path is None:
        return
    if model is not None and path.exists() and model.exists() and path.samefile(model):
        raise InputError(f"{path}: the output is the model file itself", hint="give the output another name")
    if not wanted.dry_run:
        with out.working("loading torch"):
            from surgery.graph import check_export
        check_export(path)
        return
    if path.suffix not in PLAN_FORMATS:
        raise InputError(f"{path}: unknown format {path.suffix!r}", hint=f"known are {', '.join(PLAN_FORMATS)}")
    check_writable(path)


def _rehearse(opened: Opened, planned: Plan, promise: Promise | None, wanted: OutputOptions, out: Output) -> Operation:
    """Apply the edits to a copy to count operations; write the plan, and certify nothing."""
    from surgery.linear import offenders
    from surgery.rewrite import apply, save_plan
    from surgery_cli.show.operation import Operation

    after = apply(planned, strict=False).module
    failure = _unexpected(planned)
    written = wanted.output if failure is None or wanted.keep_going else None
    if written is not None:
        save_plan(planned, written)
    return Operation(
        opened=opened,
        plan=planned,
        after=after,
        offenders=offenders(after) if promise == "affine" else (),
        failure=failure,
        written=written,
    )


def _carry_out(opened: Opened, planned: Plan, promise: Promise | None, wanted: OutputOptions, out: Output) -> Operation:
    from surgery.graph import export_graph
    from surgery.linear import apply_checked
    from surgery_cli.show.operation import Operation

    unexpected = _unexpected(planned)
    if unexpected is not None and not wanted.keep_going:
        raise unexpected
    with out.working("rewriting and checking"):
        checked = apply_checked(planned, promise=promise, strict=False)
    failure = unexpected
    if checked.failure is not None:
        keep = "--keep-going writes the result as it is"
        rules = "add rules for the operations named above; " if checked.certificate is not None else ""
        failure = CertificateError(checked.failure, hint=f"{rules}{keep}")
    written = wanted.output if failure is None or wanted.keep_going else None
    if written is not None:
        with out.working(f"writing {written}"):
            export_graph(checked.module, written)
    return Operation(
        opened=opened,
        plan=planned,
        after=checked.module,
        certificate=checked.certificate,
        comparison=checked.comparison,
        failure=failure,
        written=written,
    )


def _unexpected(planned: Plan) -> RuleError | None:
    """The error of rules that did not fire as often as they expect, as `apply` raises it in its strict mode."""
    if not planned.unexpected:
        return None
    return RuleError(
        "\n".join(planned.unexpected),
        hint="--dry-run shows all near misses; --keep-going writes the result anyway",
    )


def _conclude(result: Operation, wanted: OutputOptions, out: Output) -> int:
    """Report the outcome on stderr, after the data, and return the exit code."""
    failure, path = result.failure, wanted.output
    if failure is None:
        if path is None and not wanted.dry_run:
            out.note("nothing was written (-o FILE writes the result)")
        return ExitCode.DONE
    if wanted.keep_going:
        written = f"; {result.written} was written anyway" if result.written else ""
        out.warn(f"{failure.message}{written}")
        return ExitCode.PARTLY_DONE
    found = problem(failure)
    if not out.as_json:
        report(found, as_json=False)
        if path is not None and result.written is None:
            out.note(f"{path} was not written")
    return found.code
