"""W&B's mode (online, offline, disabled), its server, and the id of a run there. An API key is looked for, not read."""

from __future__ import annotations

import hashlib
import netrc
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pydantic import ValidationError

from vlmprune.errors import UserError, error_text
from vlmprune.files import expand_path

if TYPE_CHECKING:
    import wandb


PROJECT = "vlmprune"  # unless our settings or W&B's own name another
Mode = Literal["online", "offline", "disabled"]
OFFLINE_MODES: dict[str, Mode] = {
    "disabled": "disabled",
    "offline": "offline",
    "dryrun": "offline",
}  # W&B's names


def resolve_mode(mode: Literal["auto"] | Mode) -> tuple[Mode, str]:
    """Return the mode that `mode` means here, and the setting of W&B that decided it ("" for none).

    `auto` follows `wandb.init`, which obeys `wandb offline`, `wandb disabled`, a settings file and WANDB_MODE, but is
    offline without an API key. Raises UserError if W&B would refuse its own settings; nothing is sent then.
    """
    if mode != "auto":
        return mode, ""
    if os.environ.get("WANDB_DISABLED", "").lower() not in ("", "0", "false"):  # of earlier versions of W&B
        return "disabled", "WANDB_DISABLED"
    held = wandb_settings()
    if held.mode in OFFLINE_MODES:
        files = held.read_system_settings().sources
        source = "WANDB_MODE" if "WANDB_MODE" in os.environ else " and ".join(str(file) for file in files)
        return OFFLINE_MODES[held.mode], f"{held.mode} in {source}"
    return "online" if has_api_key() else "offline", ""


def wandb_settings() -> wandb.Settings:
    """Return W&B's settings as `wandb.init` would read them here: its two settings files and then the environment.

    Raises UserError if W&B would refuse them.
    """
    import wandb

    folder = os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb"
    try:
        settings = wandb.Settings(
            silent=True, settings_system=str(expand_path("WANDB_CONFIG_DIR", folder) / "settings")
        )
        settings.update_from_system_settings()
        settings.update_from_env_vars(dict(os.environ))
    except ValidationError as error:
        # The error's whole text would repeat the value, which may be a key.
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = ".".join(str(part) for part in fault["loc"])
        raise UserError(f"W&B's own setting {name} (WANDB_{name.upper()}): {fault['msg']}") from None
    except wandb.Error as error:
        raise UserError(f"W&B's own settings: {error_text(error)}") from error
    return settings


def has_api_key() -> bool:
    """Return True if W&B finds an API key in its settings or netrc; without one it cannot be used online."""
    held = wandb_settings()
    if held.api_key:
        return True
    hosts = {urlsplit(held.base_url).netloc, "api.wandb.ai"}
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            entries = netrc.netrc(path).hosts
        except (OSError, netrc.NetrcParseError):
            continue
        if hosts & entries.keys():
            return True
    return False


def server_address() -> str:
    """Return the address of W&B's server: the default, or that of its settings files or WANDB_BASE_URL."""
    return wandb_settings().base_url


def run_identity(fingerprint: str, outputs_id: str) -> str:
    """Return the W&B run id: equal for the same run in the same outputs folder, different for two people's folders."""
    return hashlib.sha256((fingerprint + outputs_id).encode()).hexdigest()[:16]


def outputs_identity(outputs: Path) -> str:
    """Return the random id of an outputs folder from its file `.id`; if it is missing, exactly one process makes it."""
    file = outputs / ".id"
    if not file.exists():
        outputs.mkdir(parents=True, exist_ok=True)
        draft = outputs / f".id.{secrets.token_hex(4)}"
        draft.write_text(secrets.token_hex(16) + "\n", encoding="utf-8")
        try:
            os.link(draft, file)  # fails if another process was first; never shows half a file
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return file.read_text(encoding="utf-8").strip()
