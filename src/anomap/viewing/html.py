"""HTML pages made of the files in `templates/`."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from anomap.viewing import palette

_TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, **values: Any) -> str:
    """Fill in a template; every value that is not `Markup` is escaped."""
    loader = FileSystemLoader(_TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.get_template(template).render(palette=palette, **values)


def source(*names: str) -> Markup:
    """Styles or scripts, to stand in a page as they are."""
    return Markup("\n".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in names))
