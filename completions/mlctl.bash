# bash completion of mlctl. It asks mlctl itself: steps, runs, params and contexts complete too.
# Install: mlctl completion bash > ~/.local/share/bash-completion/completions/mlctl

_mlctl() {
    # Bash splits words at `@`, `=` and `:` too, which instances and params are full of: split anew, at spaces only.
    local line="${COMP_LINE:0:COMP_POINT}" IFS=$' \t\n'
    local -a words
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local current="${words[-1]}"

    IFS=$'\013'
    COMPREPLY=($(
        COMPLETE=bash _CLAP_IFS="$IFS" _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) _CLAP_COMPLETE_COMP_TYPE=9 \
            _CLAP_COMPLETE_SPACE=false mlctl -- "${words[@]}" 2>/dev/null
    )) || COMPREPLY=()

    # A lone answer that goes on, as a directory or a param's name, gets no space behind it.
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} != *[=/:] ]] && compopt +o nospace 2> /dev/null

    # Bash replaces only what stands after the last sign that it splits at.
    local kept="${current%"${current##*[@=:]}"}"
    [[ -z $kept ]] || COMPREPLY=("${COMPREPLY[@]#"$kept"}")
}

complete -o nospace -o bashdefault -F _mlctl mlctl
