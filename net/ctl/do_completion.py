"""``completion``: scripts for bash, zsh, fish and PowerShell, which ask ``__complete`` what may come next.

A script is the same few lines for every program: it hands over the words typed so far and offers the answers,
one a line, each with its description behind a tab.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from .command import Command
from .context import Context, write
from .find import UnknownCommand, all_flags, find

__all__ = ["bash", "complete", "fish", "powershell", "zsh"]

_BASH: Final = """\
# bash completion V2 for {shown:<36} -*- shell-script -*-

__{name}_complete()
{{
    local word="${{COMP_WORDS[COMP_CWORD]}}" line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("${{line%%$'\\t'*}}")
    done < <("${{COMP_WORDS[0]}}" __complete "${{COMP_WORDS[@]:1:COMP_CWORD-1}}" "$word" 2>/dev/null)
    if [[ ${{#COMPREPLY[@]}} -eq 0 ]]; then
        compopt -o default 2>/dev/null
    fi
}}

complete -F __{name}_complete {programs}
"""
_ZSH: Final = """\
#compdef {programs}

_{name}() {{
    local line
    local -a found
    while IFS= read -r line; do
        line="${{line//:/\\\\:}}"
        found+=("${{line/$'\\t'/:}}")
    done < <("${{words[1]}}" __complete "${{(@)words[2,CURRENT]}}" 2>/dev/null)
    _describe -t commands '{name}' found || _files
}}

if [ "$funcstack[1]" = "_{name}" ]; then
    _{name} "$@"
else
    compdef _{name} {programs}
fi
"""
_FISH: Final = """\
# fish completion for {shown:<36} -*- shell-script -*-

function __{name}_complete
    set -l words (commandline -opc) (commandline -ct)
    $words[1] __complete $words[2..-1] 2>/dev/null
end

for program in {programs}
    complete -c $program -a '(__{name}_complete)'
end
"""
_POWERSHELL: Final = """\
# powershell completion for {shown:<36} -*- shell-script -*-

Register-ArgumentCompleter -Native -CommandName {quoted} -ScriptBlock {{
    param($word, $command, $position)
    $words = @($command.CommandElements | ForEach-Object {{ "$_" }})
    $rest = @($words | Select-Object -Skip 1)
    if ($word -eq '') {{ $rest += '' }}
    & $words[0] __complete @rest 2>$null | ForEach-Object {{
        $parts = $_ -split "`t", 2
        $text = if ($parts.Length -gt 1) {{ $parts[1] }} else {{ $parts[0] }}
        [System.Management.Automation.CompletionResult]::new($parts[0], $parts[0], 'ParameterValue', $text)
    }}
}}
"""


def _script(context: Context, template: str) -> None:
    name = context.program.root.name
    called = os.path.basename(sys.argv[0])
    programs = dict.fromkeys([name, name.replace("etcd", "tercet"), called])
    known = [word for word in programs if word.isidentifier()]
    write(
        template.format(
            name=name,
            shown=name,
            programs=" ".join(known),
            quoted=",".join(f"'{word}'" for word in known),
        )
    )


def bash(context: Context) -> None:
    """``completion bash``."""
    _script(context, _BASH)


def zsh(context: Context) -> None:
    """``completion zsh``."""
    _script(context, _ZSH)


def fish(context: Context) -> None:
    """``completion fish``."""
    _script(context, _FISH)


def powershell(context: Context) -> None:
    """``completion powershell``."""
    _script(context, _POWERSHELL)


def complete(context: Context) -> None:
    """``__complete``: the last word is the one being typed, maybe empty; prints what it may become."""
    words = context.arguments or [""]
    typed = words[-1]
    try:
        path, _ = find(context.program, words[:-1])
    except UnknownCommand:
        return
    if typed.startswith("-"):
        found = [
            (f"--{flag.name}", flag.text)
            for flag in sorted(all_flags(context.program, path).values(), key=lambda one: one.name)
            if not flag.hidden
        ]
    else:
        found = [(child.name, child.short) for child in _shown(path[-1])]
    write("".join(f"{name}\t{text}\n" for name, text in found if name.startswith(typed)))


def _shown(command: Command) -> list[Command]:
    return sorted((child for child in command.children if not child.hidden), key=lambda one: one.name)
