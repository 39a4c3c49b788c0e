"""``edgecifar sign``: sign model files, for `edgecifar verify --key` to check."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="FILE…")
@click.option("--key", type=click.Path(path_type=Path), help="The private key, a PEM file.")
@click.option("--new-key", type=click.Path(path_type=Path), help="Make a private key here first, "
              "and the public one beside it (NAME.pub.pem).")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the key given to --new-key.")
def sign(files: tuple[Path, ...], key: Path | None, new_key: Path | None, force: bool) -> None:
    """Sign model FILEs with an Ed25519 key.

    Keep the private key to yourself; devices get the public one.
    """
    from edgecifar.runtime import signing

    if (key is None) == (new_key is None) or not (files or new_key):
        raise click.UsageError("give files and --key, or --new-key and files if there are some")
    if new_key is not None:
        click.echo(f"wrote {new_key} and {signing.make_key(new_key, force=force)}")
    for path in files:
        click.echo(f"signed {path} with the key {signing.sign(path, key or new_key)}")
