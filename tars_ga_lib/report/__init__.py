"""The report: an executed notebook becomes a PDF, a page for browsers, and GitHub Markdown.

The way of a notebook::

                      ┌─ pdf ─────── PDF                    TypstPDFExporter
    notebook ─ blocks ┼─ html ────── HTML in one file       HTMLExporter
                      └─ markdown ── Markdown, SVG files    MarkdownExporter

Three promises: a notebook that failed or did not run makes no report; code and stderr are not for
readers and stay out; the same notebook gives the same bytes (the document is dated by the end of
the certified window, no font of the machine is used, nothing asks the clock).

`to_pdf`, `to_html` and `to_markdown` do the work without nbconvert, which takes half a second to
import. The exporter classes wrap them for ``jupyter nbconvert --to tars_ga_pdf``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tars_ga_lib.report.blocks import Paper, Part, ReportError
from tars_ga_lib.report.html import to_html
from tars_ga_lib.report.markdown import to_markdown
from tars_ga_lib.report.pdf import to_pdf

__all__ = [
    "HTMLExporter",
    "MarkdownExporter",
    "Paper",
    "ReportError",
    "TypstPDFExporter",
    "to_html",
    "to_markdown",
    "to_pdf",
]


def _exporters() -> dict[str, type]:
    """Make the exporter classes; only who asks for one pays for the import of nbconvert."""
    from nbconvert.exporters.exporter import Exporter
    from traitlets import Enum, Integer, Unicode

    class _OfBlocks(Exporter):
        part = Enum(["report", "appendix"], "report", help="What to make.").tag(config=True)

        def from_notebook_node(self, nb: Any, resources: Any = None, **kw: Any) -> tuple[Any, Any]:
            nb, resources = super().from_notebook_node(nb, resources, **kw)
            resources["output_extension"] = self.file_extension
            return self._made(nb, resources), resources

        def _made(self, nb: Any, resources: Any) -> bytes | str:
            raise NotImplementedError

    class TypstPDFExporter(_OfBlocks):
        """``jupyter nbconvert --to tars_ga_pdf``: a notebook as a PDF, by way of Typst."""

        export_from_notebook = "T.A.R.S. GA report (PDF)"
        output_mimetype = "application/pdf"
        file_extension = ".pdf"
        paper = Enum(["a4", "us-letter"], "a4", help="Size of the pages.").tag(config=True)
        timestamp = Integer(
            None, allow_none=True, help="Date of the document, in seconds since 1970."
        ).tag(config=True)

        def _made(self, nb: Any, resources: Any) -> bytes:
            part, paper = cast(Part, self.part), cast(Paper, self.paper)
            return to_pdf(nb, part=part, paper=paper, timestamp=self.timestamp)

    class MarkdownExporter(_OfBlocks):
        """``jupyter nbconvert --to tars_ga_markdown``: GitHub Markdown and SVG files beside it."""

        export_from_notebook = "T.A.R.S. GA report (Markdown)"
        output_mimetype = "text/markdown"
        file_extension = ".md"
        folder = Unicode("charts", help="Where the charts go.").tag(config=True)

        def _made(self, nb: Any, resources: Any) -> str:
            text, files = to_markdown(nb, part=cast(Part, self.part), folder=self.folder)
            resources.setdefault("outputs", {}).update(files)
            return text

    class HTMLExporter(_OfBlocks):
        """``jupyter nbconvert --to tars_ga_html``: a page for browsers, in one file."""

        export_from_notebook = "T.A.R.S. GA report (HTML)"
        output_mimetype = "text/html"
        file_extension = ".html"

        def _made(self, nb: Any, resources: Any) -> str:
            return to_html(nb, part=cast(Part, self.part))

    made = (TypstPDFExporter, MarkdownExporter, HTMLExporter)
    return {exporter.__name__: exporter for exporter in made}


if TYPE_CHECKING:
    TypstPDFExporter: type
    MarkdownExporter: type
    HTMLExporter: type


def __getattr__(name: str) -> Any:
    """Give the exporter classes on demand, as the entry points ask for them."""
    if name in ("TypstPDFExporter", "MarkdownExporter", "HTMLExporter"):
        globals().update(_exporters())
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
