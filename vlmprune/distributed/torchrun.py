"""Processes that `accelerate launch -m vlmprune run ...` or `torchrun -m vlmprune run ...` started.

Each reads its rank from its environment. Process 0 broadcasts the port it listens on with torch.distributed and gloo,
and the others connect to it. They may run on several machines; the outputs are written on the machine of process 0.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vlmprune.errors import ProcessLost, UserError

if TYPE_CHECKING:
    from vlmprune.distributed.team import Process, Team


CONNECT_SECONDS = 60
NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
REMEDY = "start it with accelerate launch or torchrun, or unset WORLD_SIZE"

launcher_team: Team | None = None  # set in process 0 of several processes


def world_size() -> int:
    """Return the number of processes that a launcher started; 1 without a launcher.

    Raise UserError if WORLD_SIZE is no such number.
    """
    return _number("WORLD_SIZE", 1, 1)


def local_size() -> int:
    """Return the number of those processes that run on this machine."""
    return _number("LOCAL_WORLD_SIZE", world_size(), 1)


def check_environment() -> None:
    """Raise UserError if a variable that a launcher sets in the environment is missing or impossible."""
    if missing := [name for name in NEEDED if name not in os.environ]:
        raise UserError(f"WORLD_SIZE={world_size()} without {', '.join(missing)}: {REMEDY}")
    local_size()
    for name in ("RANK", "LOCAL_RANK"):
        if _number(name, 0, 0) >= world_size():
            raise UserError(f"{name}={os.environ[name]} of WORLD_SIZE={world_size()}: they count from 0; {REMEDY}")
    _number("MASTER_PORT", 0, 1, 65535)
    if not re.fullmatch(r"[\w.:%-]{1,253}", os.environ["MASTER_ADDR"]):  # gloo waits for an unresolved name
        raise UserError(f"MASTER_ADDR={os.environ['MASTER_ADDR']} in the environment is no name of a machine; {REMEDY}")


def _number(name: str, default: int, least: int, most: int = 999_999) -> int:
    """Return a number that a launcher sets in the environment; `default` if it is not set."""
    value = os.environ.get(name, str(default))
    if re.fullmatch("[0-9]{1,6}", value) is None or not least <= int(value) <= most:
        raise UserError(
            f"{name}={value} in the environment: expected a number, {least} or more, at most {most}; {REMEDY}"
        )
    return int(value)


def run_in_all_processes(command: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Carry out `command`, a run, in process 0 and serve it in all others; return the exit code."""
    global launcher_team
    if world_size() == 1:
        return command(arguments)
    check_environment()
    if os.environ["RANK"] != "0":
        return connect_and_serve()
    from vlmprune.distributed.team import Team

    launcher_team = Team(accept_processes())
    try:
        return command(arguments)
    finally:
        launcher_team.close()
        launcher_team = None


def refuse_sweep() -> None:
    """Raise UserError in a launcher's processes: there, an error in one job of a sweep would end all other jobs."""
    if launcher_team is not None:
        raise UserError(
            "accelerate launch and torchrun start the processes of one run: without them, "
            f"devices={launcher_team.size} gives every job of a sweep as many"
        )


def accept_processes() -> list[Process]:
    """Return the other processes by rank, once all have connected. Raise ProcessLost if one does not."""
    import torch.distributed as dist

    from vlmprune.distributed.messages import Connection
    from vlmprune.distributed.team import Process

    here = local_size() == world_size()
    dist.init_process_group("gloo")
    members: list[Process] = []
    with socket.create_server(("127.0.0.1" if here else "", 0), backlog=world_size()) as server:
        server.settimeout(CONNECT_SECONDS)
        password = secrets.token_hex(16)  # anyone on the network can reach the port
        dist.broadcast_object_list([server.getsockname()[1], password])
        while len(members) < world_size() - 1:
            try:
                endpoint, _ = server.accept()
            except TimeoutError as error:
                waiting = world_size() - 1 - len(members)
                raise ProcessLost(f"{waiting} processes of the launcher did not connect to process 0") from error
            endpoint.settimeout(CONNECT_SECONDS)
            connection = Connection(endpoint)
            match connection.receive():
                case ("hello", [str(said), int(rank), int(local)]) if secrets.compare_digest(said, password):
                    keep_alive(endpoint)
                    members.append(Process(rank, local, connection))
                case _:
                    connection.close()
    dist.destroy_process_group()
    return sorted(members, key=lambda member: member.rank)


def connect_and_serve() -> int:
    """Connect to process 0 and serve it; return the exit code."""
    import torch.distributed as dist

    from vlmprune.distributed.messages import Connection
    from vlmprune.distributed.worker import serve

    dist.init_process_group("gloo")
    found: list[Any] = [None, None]
    dist.broadcast_object_list(found)
    host = "127.0.0.1" if local_size() == world_size() else os.environ["MASTER_ADDR"]
    endpoint = socket.create_connection((host, found[0]), CONNECT_SECONDS)
    keep_alive(endpoint)
    connection = Connection(endpoint)
    connection.send("hello", [found[1], int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])])
    dist.destroy_process_group()
    try:
        return serve(connection)
    except (ConnectionError, KeyboardInterrupt):  # process 0 reports the error
        return 1


def keep_alive(connection: socket.socket) -> None:
    """Remove the connection's timeout, and detect within about two minutes that the other machine is gone."""
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
