"""Planning, rewriting, checking the promise and writing: what `linearize` and `apply` have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import CertificateError, InputError, RuleError
from surgery.files import check_writable, existing_file
from surgery_cli.console import Output
from surgery_cli.errors import ExitCode, problem, report
from surgery_cli.loading import ModelOptions, Opened, check_options, open_graph
from surgery_cli.operation import Operation

if TYPE_CHECKING:
    from surgery.graph import Graph
    from surgery.linear import AffineCertificate, Comparison
    from surgery.rewrite import Plan

Planner = Callable[["Graph"], "Plan"]
"""Makes the plan for a graph."""

PLAN_FORMATS = (".toml", ".json")


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What the user wants done with the result."""

    output: Path | None
    dry_run: bool
    keep_going: bool
    verbose: bool


def operate(options: ModelOptions, prepare: Callable[[Output], Planner], wishes: OutputOptions, out: Output) -> int:
    """Open the model, plan, apply, check, write and print; return the exit code.

    Raises SurgeryError for bad input; a broken promise is printed with the result.
    """
    check_options(options)
    check_destination(wishes, options.path, out)
    planner = prepare(out)
    opened = open_graph(options, out)
    with out.working("planning"):
        planned = planner(opened.graph)
    result = (_rehearse if wishes.dry_run else _carry_out)(opened, planned, wishes, out)
    from surgery_cli.show import operation as view

    if out.as_json:
        error = {} if result.failure is None else {"error": problem(result.failure).as_dict()}
        out.data(view.as_dict(result) | error)
    out.show(*(view.planned if wishes.dry_run else view.done)(result, verbose=wishes.verbose))
    return _conclude(result, wishes, out)


def by_rules(names: list[str], out: Output) -> Planner:
    """Plan by rulesets, which are read now: their mistakes are told before a model is opened."""
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


def check_destination(wishes: OutputOptions, model: Path | None, out: Output) -> None:
    """Raise InputError, before any work is done, where the output cannot be written."""
    path = wishes.output
    if path is None:
        return
    if model is not None and path.exists() and model.exists() and path.samefile(model):
        raise InputError(f"{path}: the output is the model file itself", hint="give the output another name")
    if wishes.dry_run:
        check_text_file(path, PLAN_FORMATS)
        return
    check_writable(path)
    with out.working("loading torch"):
        from surgery.graph import check_export
    check_export(path)


def check_text_file(path: Path, formats: tuple[str, ...]) -> None:
    """Raise InputError where `path` has none of the extensions or cannot be written."""
    if path.suffix not in formats:
        raise InputError(f"{path}: unknown format {path.suffix!r}", hint=f"known are {', '.join(formats)}")
    check_writable(path)


def _rehearse(opened: Opened, planned: Plan, wishes: OutputOptions, out: Output) -> Operation:
    """The edits on a copy, for the counts; nothing is certified, and the plan is what is written."""
    from surgery.linear import offenders
    from surgery.rewrite import apply, save_plan

    after = apply(planned, strict=False).module
    failure = _unexpected(planned)
    written = wishes.output if failure is None or wishes.keep_going else None
    if written is not None:
        save_plan(planned, written)
    return Operation(
        opened=opened,
        plan=planned,
        after=after,
        offenders=offenders(after) if planned.rules.promise == "affine" else (),
        failure=failure,
        written=written,
    )


def _carry_out(opened: Opened, planned: Plan, wishes: OutputOptions, out: Output) -> Operation:
    from surgery.graph import export_graph
    from surgery.linear import certify, compare
    from surgery.rewrite import apply

    unexpected = _unexpected(planned)
    if unexpected is not None and not wishes.keep_going:
        raise unexpected
    with out.working("rewriting"):
        after = apply(planned, strict=False).module
    certificate = comparison = None
    if planned.rules.promise == "affine":
        with out.working("certifying"):
            certificate = certify(after)
    elif planned.rules.promise == "same function":
        with out.working("comparing the outputs"):
            comparison = compare(opened.graph, after)
    failure = _broken_promise(certificate, comparison) or unexpected
    written = wishes.output if failure is None or wishes.keep_going else None
    if written is not None:
        with out.working(f"writing {written}"):
            export_graph(after, written)
    return Operation(
        opened=opened,
        plan=planned,
        after=after,
        certificate=certificate,
        comparison=comparison,
        failure=failure,
        written=written,
    )


def _broken_promise(certificate: AffineCertificate | None, comparison: Comparison | None) -> CertificateError | None:
    if certificate is not None and not certificate.affine:
        return CertificateError(
            f"the result is not certified affine: {certificate.reason}",
            hint="add rules for the operations named above; --keep-going writes the result as it is",
        )
    if comparison is not None and not comparison.same:
        return CertificateError(
            f"the result is another function: outputs differ by {comparison.difference:.1e} of the largest,"
            f" more than {comparison.tolerance:.0e}",
            hint="--keep-going writes the result as it is",
        )
    return None


def _unexpected(planned: Plan) -> RuleError | None:
    """What `apply` would refuse in its strict mode."""
    if not planned.unexpected:
        return None
    return RuleError(
        "\n".join(planned.unexpected), hint="--dry-run shows all near misses; --keep-going goes on regardless"
    )


def _conclude(result: Operation, wishes: OutputOptions, out: Output) -> int:
    """Say on stderr what came of it, after the data."""
    failure, path = result.failure, wishes.output
    if failure is None:
        if path is None and not wishes.dry_run:
            out.note("nothing was written (-o FILE writes the result)")
        return ExitCode.DONE
    if wishes.keep_going:
        written = f"; {result.written} was written all the same" if result.written else ""
        out.warn(f"{failure.message}{written}")
        return ExitCode.PARTLY_DONE
    found = problem(failure)
    if not out.as_json:
        report(found, as_json=False)
        if path is not None and result.written is None:
            out.note(f"{path} was not written")
    return found.code
