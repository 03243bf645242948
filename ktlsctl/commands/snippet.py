# SPDX-License-Identifier: BSD-2-Clause
"""snippet: what to write for an application."""

from __future__ import annotations

import click

from ktlsctl.commands.options import debug_option, format_option, json_option
from ktlsctl.commands.output import ExitStatus, Failure, put
from ktlsctl.commands.reports import live_host


@click.command()
@click.argument(
    "application",
    required=False,
    type=click.Choice(["nginx", "haproxy", "apache", "lighttpd", "stunnel", "python", "gnutls", "postgresql"]),
)
@format_option("text", "lines", "json", help="What to print; lines: only what goes into the configuration.")
@json_option
@debug_option
def snippet(application: str | None, form: str, as_json: bool) -> int:
    """How is this application told to use kernel TLS?

    Prints what to put where, from which release on, how to keep it off, and how to see whether it works; without an
    application, which there are and what is installed here. Writes nothing: an application's configuration is yours.
    """
    from ktlsctl.host import LiveHost
    from ktlsctl.snippets import BY_NAME, SNIPPETS, look

    form = "json" if as_json else form
    chosen = SNIPPETS if application is None else (BY_NAME[application],)
    if form == "lines":
        if application is None:
            raise click.UsageError("--format lines prints one application: name it.")
        if not chosen[0].lines:
            raise Failure(f"there is nothing to write for {chosen[0].title}: {chosen[0].needs}.")
        put(chosen[0].lines)
        return ExitStatus.OK
    host = LiveHost()
    looked = [(each, look(host, each)) for each in chosen]
    if form == "json":
        from ktlsctl.render import jsondoc

        put(jsondoc.render_snippets(live_host().about, looked))
    else:
        from ktlsctl.render import snippet_text

        put(snippet_text.render_list(looked) if application is None else snippet_text.render(*looked[0]))
    return ExitStatus.OK
