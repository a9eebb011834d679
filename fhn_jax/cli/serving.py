"""The command that serves the page and the API."""

from pathlib import Path

from fhn_jax.cli import attributes, events, visitors
from fhn_jax.cli.command import DATABASE_URL, Command, Flag, Program
from fhn_jax.cli.config import read_config_arguments
from fhn_jax.cli.recommending import INDEX, RAY_ADDRESS
from fhn_jax.cli.run import DEFAULT_ROOT, Run, RunChoice
from fhn_jax.cli.training import main_job
from fhn_jax.errors import InputError

_DEMO = "vse_t3"


def serve(
    choice: RunChoice,
    *,
    index: str,
    ray_address: str,
    host: str,
    port: int,
    workers: int,
    database_url: str,
    keep_days: int,
    allowed_hosts: str,
    rate: int,
    connections: int,
    trusted_proxies: str,
    root_path: str,
    access_log: bool,
    known_users: bool,
) -> None:
    """Serves the page and the API until it is stopped.

    Args:
      choice: the demo if it names no run; trained first if it is not yet.
      index: folder of an `OutfitIndex`; one of the data's outfits if empty.
      ray_address: of the head of a Ray cluster that shares the index among its nodes.
      host, port, workers: see `web.app.serve`.
      database_url, keep_days, rate, connections, root_path, access_log, known_users:
        see `web.app.Settings`.
      trusted_proxies: addresses and networks with commas between them.
      allowed_hosts: names that the server answers to, beside this machine's.
    """
    from fhn_jax.web import app

    run = demo() if choice == RunChoice() else choice.open()
    settings = app.Settings(
        workdir=str(run.workdir),
        root=str(run.root),
        variant=run.variant,
        index=index,
        ray_address=ray_address,
        database_url=database_url,
        keep_days=keep_days,
        allowed_hosts=tuple(app.split_hosts(allowed_hosts, host)),
        rate=float(rate),
        connections=connections,
        trusted_proxies=app.split(trusted_proxies),
        root_path=root_path,
        access_log=access_log,
        known_users=known_users,
    )
    app.serve(settings, host=host, port=port, workers=workers)


def demo() -> Run:
    """The run of the README's command, trained if it is not yet and needs no data."""
    workdir = Path("runs") / _DEMO
    if not (workdir / "codes.safetensors").is_file():
        if DEFAULT_ROOT.is_dir():
            raise InputError(
                f"there is no run in {workdir} yet; train one, `fhn-jax --config "
                f"{_DEMO}`, or give the --workdir of another"
            )
        given = read_config_arguments(["--config", _DEMO])
        main_job(RunChoice(given), split="test")
    return RunChoice(workdir=workdir).open()


COMMANDS = (
    Program(
        "compile",
        "Compile the loops of search and composition, once after installation",
        "fhn_jax.cli.compiling",
    ),
    Command(
        "serve",
        "Serve the page and the API; of the demo, without --workdir",
        serve,
        (
            Flag("host", "127.0.0.1", "Address to listen at; 0.0.0.0 for all"),
            Flag("port", 8000, "Port to listen at"),
            Flag("workers", 1, "Processes that serve"),
            INDEX,
            RAY_ADDRESS,
            DATABASE_URL,
            Flag(
                "keep-days", 400, "Until visitors who stay away are forgotten; 0: never"
            ),
            Flag("allowed-hosts", "", "Names, with commas, that it is reached by"),
            Flag("rate", 20, "Requests a second of one address; 0 for any number"),
            Flag("connections", 256, "Connections of one address"),
            Flag(
                "trusted-proxies",
                "",
                "Addresses and networks, with commas, whose X-Forwarded headers count",
            ),
            Flag("root-path", "", "Where a proxy puts it, such as /outfits"),
            Flag("access-log", False, "Whether requests are lines of JSON on stdout"),
            Flag("known-users", True, "Whether visitors may start as a known user"),
        ),
        extra="web",
    ),
    *attributes.COMMANDS,
    *visitors.COMMANDS,
    *events.COMMANDS,
)
