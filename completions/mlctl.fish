# fish completion of mlctl. It asks mlctl itself: steps, runs, params and contexts complete too.
# Install: mlctl completion fish > ~/.config/fish/completions/mlctl.fish

complete --command mlctl --keep-order --exclusive --arguments "(
    COMPLETE=fish mlctl -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token) 2>/dev/null
)"
