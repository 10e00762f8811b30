"""Whether W&B is asked online, and which of its runs a run is. API keys are only looked for, never read anywhere."""

from __future__ import annotations

import hashlib
import netrc
import os
import secrets
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

Mode = Literal["online", "offline", "disabled"]


def resolve_mode(mode: Literal["auto"] | Mode) -> Mode:
    """What `auto` means here: WANDB_MODE where it is set, else online with an API key and offline without one."""
    asked = mode if mode != "auto" else os.environ.get("WANDB_MODE", "")
    if asked == "disabled":
        return "disabled"
    if asked == "offline":
        return "offline"
    return "online" if asked == "online" or has_api_key() else "offline"


def has_api_key() -> bool:
    """Whether W&B would find an API key, in the environment or in netrc; without one it must not be asked online."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    hosts = {urlsplit(server()).netloc, "api.wandb.ai"}
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            entries = netrc.netrc(path).hosts
        except (OSError, netrc.NetrcParseError):
            continue
        if hosts & entries.keys():
            return True
    return False


def server() -> str:
    """The address that W&B's client talks to: its default, or what its settings files or WANDB_BASE_URL say."""
    import wandb

    settings = wandb.Settings()
    settings.update_from_system_settings()
    settings.update_from_env_vars(dict(os.environ))
    return settings.base_url


def run_identity(fingerprint: str, outputs_id: str) -> str:
    """The W&B run id: the same run in the same outputs folder is one W&B run, two people's are two."""
    return hashlib.sha256((fingerprint + outputs_id).encode()).hexdigest()[:16]


def outputs_identity(outputs: Path) -> str:
    """The random id of an outputs folder, in its file `.id`; made there if missing, by exactly one process."""
    file = outputs / ".id"
    if not file.exists():
        outputs.mkdir(parents=True, exist_ok=True)
        draft = outputs / f".id.{secrets.token_hex(4)}"
        draft.write_text(secrets.token_hex(16) + "\n")
        try:
            os.link(draft, file)  # fails if another process was first; never shows half a file
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return file.read_text().strip()
