"""What the source alone does not show of the public names, for the reference.

A function may share the name of its module, as `fixpoint.solve`. Read from the source, that name
is the module: only running `from fixpoint.solve import solve` makes it the function. Here the
function is put beside the module, under a key of its own.
"""

import re
from typing import Any

import griffe

SHAPE = re.compile(r"""(<span class="s[12]">)(["'])\s?([a-z0-9*_ ]+)\2(</span>)""")


class Reference(griffe.Extension):
    """Signatures and members as they are when the package is imported."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        if str(attr.annotation) == "ClassVar":  # no field of its dataclass
            attr.labels.discard("instance-attribute")

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        packages = [pkg]
        while packages:
            package = packages.pop()
            for name in package.exports or ():
                function = _function(package, str(name))
                if function is not None:
                    package.members[f"{name}()"] = function
            packages += [
                module
                for module in package.members.values()
                if isinstance(module, griffe.Module) and module.is_init_module
            ]


def _function(package: griffe.Module, name: str) -> griffe.Function | None:
    """The function behind an exported name that reads as the module it is defined in."""
    found = package.members.get(name)
    while isinstance(found, griffe.Alias):
        found = found.final_target
    if isinstance(found, griffe.Module):
        found = found.members.get(name)
        return found if isinstance(found, griffe.Function) else None
    return None


def on_page_content(content: str, *, page: Any, **_: Any) -> str:
    """Shapes alike in all signatures: `"batch"`, whose blank in the source is for a linter."""
    return SHAPE.sub(r'\1"\3"\4', content) if page.file.src_uri.startswith("api/") else content
