"""The parser of the command line: errors are one line, and ask what a mistyped word meant."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from fixpoint._nearest import did_you_mean


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse does, but a command refuses by itself what it does not know."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            question = ""
            for word in unknown:
                if word.startswith("-"):
                    question = did_you_mean(word.partition("=")[0], self._option_string_actions)
                    break
            self.error(f"unrecognized arguments: {' '.join(unknown)}{question}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Print one line, which asks for the nearest choice where one was mistyped; exit code 2."""
        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if choice is not None:
            message += did_you_mean(choice[1], re.findall(r"[\w.-]+", choice[2]))
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")
