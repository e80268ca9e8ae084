"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from mailsigil.config.errors import ConfigError
from mailsigil.config.loading import load_settings
from mailsigil.config.settings import DEFAULT_PATH

WRONG_USE = 2
"""Exit status for wrong use or configuration."""

F = TypeVar("F", bound=Callable[..., Any])


def config_option(function: F) -> F:
    """Give a command ``--config``; it gets the path as ``config``."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        default=DEFAULT_PATH,
        show_default=True,
        envvar="MAILSIGIL_CONFIG",
        show_envvar=True,
        help="The configuration file.",
    )(function)


def settings_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--config``; it gets the loaded ``Settings`` as ``settings``.

    A file that cannot be used ends the command with status 2, and everything that is wrong with it.
    """

    @functools.wraps(function)
    def with_settings(*args: Any, config: Path, **kwargs: Any) -> Any:
        with config_errors_shown():
            settings = load_settings(config)
        return function(*args, settings=settings, **kwargs)

    return config_option(with_settings)


@contextmanager
def config_errors_shown() -> Iterator[None]:
    """Turn a ``ConfigError`` within into its findings on standard error, and exit status 2."""
    try:
        yield
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise click.exceptions.Exit(WRONG_USE) from error
