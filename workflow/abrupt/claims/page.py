"""The look of the pages in the report."""

STYLE = (
    "body{font:14px sans-serif;margin:1em}table{border-collapse:collapse;margin:1em 0}"
    "td,th{border:1px solid #bbb;padding:4px 8px;text-align:left;vertical-align:top}"
)


def html_page(title: str, body: str) -> str:
    """A complete HTML page with this heading."""
    head = f'<head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style></head>'
    return f'<!DOCTYPE html><html lang="en">{head}<body><h1>{title}</h1>{body}</body></html>'
