"""Scripts of `vlmprune completion SHELL`, by which a shell's TAB key calls `vlmprune complete`."""

from __future__ import annotations

BASH = r"""# vlmprune's completion for bash; in ~/.bashrc: eval "$(vlmprune completion bash)"
_vlmprune() {
    local line="${COMP_LINE:0:COMP_POINT}" word candidate
    COMPREPLY=()
    while IFS= read -r candidate; do COMPREPLY+=("$candidate"); done < <("$1" complete "$line" 2>/dev/null)
    (( ${#COMPREPLY[@]} )) || return  # then bash offers files
    word="${line##*[[:space:]]}"
    # readline replaces what stands behind the last = alone, where = breaks words
    if [[ "$COMP_WORDBREAKS" == *=* && "$word" == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*=}"}"}")
    fi
    [[ "${COMPREPLY[0]}" == *[=.] ]] && compopt -o nospace
}
complete -o default -F _vlmprune vlmprune
"""

ZSH = r"""#compdef vlmprune
# vlmprune's completion for zsh; in ~/.zshrc, after compinit: eval "$(vlmprune completion zsh)"
_vlmprune() {
    local -a found open
    found=(${(f)"$($words[1] complete "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)"})
    if (( ! $#found )); then
        compset -P '*='  # files behind benchmark.path= and the like
        _files
        return
    fi
    open=(${(M)found:#*[=.]})  # not finished yet: no space behind
    (( $#open )) && compadd -S '' -- $open
    found=(${found:#*[=.]})
    (( $#found )) && compadd -- $found
}
compdef _vlmprune vlmprune
"""

FISH = r"""# vlmprune's completion for fish; save as ~/.config/fish/completions/vlmprune.fish
complete -c vlmprune -a '(vlmprune complete (commandline -cp | string collect) 2>/dev/null)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
