"""`surgery certify`: certify that a graph is affine in its input, without rewriting it."""

from __future__ import annotations

from surgery_cli import options
from surgery_cli.console import Output
from surgery_cli.errors import ExitCode
from surgery_cli.loading import open_graph


def certify(
    model: options.ModelOptions,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> int:
    """Certify that a model or a graph is affine in its input.

    Exits with 0 if it is, and with 1 if it is not or nothing can be concluded.

    \b
    surgery certify linear.safetensors
    surgery certify --arch resnet18 --json
    """
    out = Output(as_json=as_json, debug=debug)
    opened = open_graph(model, out)
    from surgery import linear
    from surgery_cli.show.certificate import certificate_dict, certificate_view
    from surgery_cli.show.operation import model_view

    with out.working("certifying"):
        certificate = linear.certify(opened.graph)
    out.data({"model": opened.as_dict(), "certificate": certificate_dict(certificate)})
    out.show(*model_view(opened), *certificate_view(opened.graph, certificate, verbose=verbose))
    return ExitCode.DONE if certificate.affine else ExitCode.FAILED
