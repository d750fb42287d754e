"""Owns the command `nearfs image`: container images go into a repository, are listed, and go away.

Decides nothing about images (`nearfs.publish.images` does). Main thread; the engine works beside it.
"""

from __future__ import annotations

import click

from nearfs.cli import output


@click.group("image")
def command() -> None:
    """Keep container images in a repository, unpacked, so that they start without being pulled."""


@command.command("unpack")
@click.argument("source")
@click.argument("repository", metavar="FQRN")
@click.option("--name", default="", metavar="[REGISTRY/]NAME[:TAG]", help="Name in the repository.  [default: its own]")
@click.option(
    "--platform", default="", metavar="OS/ARCHITECTURE", help="Of an image of several.  [default: this one's]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def unpack(source: str, repository: str, name: str, platform: str, *, as_json: bool) -> None:
    """Publish the image SOURCE as a root file system, as one new revision.

    SOURCE is an OCI layout (a directory or a tar), an archive of `docker save`, or docker://REFERENCE, which skopeo
    fetches. Layers stream into the repository, each once, whatever image brings it.

    \b
    /REGISTRY/NAME:TAG is a link to /.flat/xx/DIGEST, the root file system:
    podman run --rootfs "$(readlink -f /cvmfs/FQRN/docker.io/library/debian:stable):O" sh
    apptainer exec /cvmfs/FQRN/docker.io/library/debian:stable sh
    """  # noqa: D301 the mark is for click
    from nearfs.cli import summary
    from nearfs.errors import InvalidInput
    from nearfs.publish import collection, image_names, image_source, images
    from nearfs.publish.repository import Repository

    made = Repository.load(repository)
    say = output.complain if as_json else output.line
    with image_source.opened(source, platform or image_source.own_platform()) as image:
        if not (name or image.name):
            message = f"{source} does not say the name of its image; give one with --name"
            raise InvalidInput(message, operation="unpack image", subject=source)
        full = image_names.full(name or image.name)
        with summary.watching() as watched:
            committed = images.unpack(made, image, full, source, watched.progress, say)
    if as_json:
        described = {"name": full, "digest": image.digest, "path": image_names.flat(image.digest)}
        output.json_document({"repository": repository, **described, **(committed or {"revision": None})})
    elif committed is None:
        output.line(f"{full} is there already: {image_names.flat(image.digest)}")
    else:
        watched.end(repository, committed)
        output.line(f"{full} is {image_names.flat(image.digest)}")
    if committed is not None:
        collection.after_publish(made, say)


@command.command("ls")
@click.argument("repository", metavar="FQRN")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def show(repository: str, *, as_json: bool) -> None:
    """List the images of a repository."""
    from nearfs.publish import image_names, images
    from nearfs.publish.repository import Repository

    kept = images.kept(Repository.load(repository))
    if as_json:
        output.json_document([{**vars(image), "path": image_names.flat(image.digest)} for image in kept])
        return
    rows = [(image.name, image.digest[:12], str(len(image.diff_ids)), image.created, image.source) for image in kept]
    output.table(("IMAGE", "DIGEST", "LAYERS", "UNPACKED", "FROM"), rows)


@command.command("rm")
@click.argument("repository", metavar="FQRN")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def remove(repository: str, names: tuple[str, ...]) -> None:
    """Remove images, and layers that no other image of the repository has, as one new revision."""
    from nearfs.cli import summary
    from nearfs.publish import collection, image_names, images
    from nearfs.publish.repository import Repository

    made = Repository.load(repository)
    with summary.watching() as watched:
        wanted = [image_names.full(name) for name in names]
        committed = images.remove(made, wanted, watched.progress, output.line)
    watched.end(repository, committed)
    collection.after_publish(made, output.line)
