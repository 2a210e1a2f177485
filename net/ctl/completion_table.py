"""``completion`` and its shells: what helps a person to install a script."""

from __future__ import annotations

from typing import Final

from .command import Command
from .flagset import bool_flag

__all__ = ["completion"]

_NOW: Final = "To load completions in your current shell session:"
_ALWAYS: Final = "To load completions for every new session, execute once:"
_RESTART: Final = "You will need to start a new shell for this setup to take effect."
_BASH: Final = f"""\
Generate the autocompletion script for the bash shell.

This script depends on the 'bash-completion' package.
If it is not installed already, you can install it via your OS's package manager.

{_NOW}

\tsource <(etcdctl completion bash)

{_ALWAYS}

#### Linux:

\tetcdctl completion bash > /etc/bash_completion.d/etcdctl

#### macOS:

\tetcdctl completion bash > $(brew --prefix)/etc/bash_completion.d/etcdctl

{_RESTART}"""
_ZSH: Final = f"""\
Generate the autocompletion script for the zsh shell.

If shell completion is not already enabled in your environment you will need
to enable it.  You can execute the following once:

\techo "autoload -U compinit; compinit" >> ~/.zshrc

{_NOW}

\tsource <(etcdctl completion zsh); compdef _etcdctl etcdctl

{_ALWAYS}

#### Linux:

\tetcdctl completion zsh > "${{fpath[1]}}/_etcdctl"

#### macOS:

\tetcdctl completion zsh > $(brew --prefix)/share/zsh/site-functions/_etcdctl

{_RESTART}"""
_FISH: Final = f"""\
Generate the autocompletion script for the fish shell.

{_NOW}

\tetcdctl completion fish | source

{_ALWAYS}

\tetcdctl completion fish > ~/.config/fish/completions/etcdctl.fish

{_RESTART}"""
_POWERSHELL: Final = f"""\
Generate the autocompletion script for powershell.

{_NOW}

\tetcdctl completion powershell | Out-String | Invoke-Expression

To load completions for every new session, add the output of the above command
to your powershell profile."""


def completion(program: str) -> Command:
    """The commands that write completion scripts for a program."""

    def shell(name: str, long: str) -> Command:
        return Command(
            name,
            f"Generate the autocompletion script for {name}",
            f"do_completion:{name}",
            long=long.replace("etcdctl", program),
            flags=(bool_flag("no-descriptions", "disable completion descriptions"),),
            plain_usage=name == "bash",
        )

    return Command(
        "completion",
        "Generate the autocompletion script for the specified shell",
        long=(
            f"Generate the autocompletion script for {program} for the specified shell.\n"
            "See each sub-command's help for details on how to use the generated script."
        ),
        children=(
            shell("bash", _BASH), shell("zsh", _ZSH), shell("fish", _FISH), shell("powershell", _POWERSHELL),
        ),
    )  # fmt: skip
