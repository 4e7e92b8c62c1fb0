// CompletionsCommand: `triad completions SHELL`, a script that makes a shell ask this program what may come next.

enum CompletionsCommand {
    enum Shell: String, CaseIterable {
        case bash, zsh, fish
    }

    static let command = Subcommand(
        name: "completions", summary: "prints a script with which a shell completes triad's command lines",
        positionals: [.init(name: "SHELL", values: .words(Shell.allCases.map(\.rawValue)))],
        details: [
            "  bash  source <(triad completions bash), or into /usr/share/bash-completion/completions/triad",
            "  zsh   source <(triad completions zsh) after compinit, or into a folder of $fpath, as _triad",
            "  fish  triad completions fish | source, or into ~/.config/fish/completions/triad.fish",
            "",
            "Names of servers and nodes are those that the node at --url, or on this machine, knows.",
        ],
        run: { arguments in
            guard let shell = Shell(rawValue: arguments.required("SHELL")) else { return 2 }
            Console.raw(script(shell))
            return 0
        })

    static func script(_ shell: Shell) -> String {
        switch shell {
        case .bash: bash
        case .zsh: zsh
        case .fish: fish
        }
    }

    private static let bash = #"""
        # triad(1) completion for bash: the program says what may come next.
        _triad() {
            local line current=${COMP_WORDS[COMP_CWORD]}
            COMPREPLY=()
            while IFS= read -r line; do
                if [ "$line" = :files ]; then
                    [ "$current" = = ] && current=
                    compopt -o filenames 2>/dev/null
                    mapfile -t COMPREPLY < <(compgen -f -- "$current")
                    return
                fi
                COMPREPLY+=("${line%%$'\t'*}")
            done < <("$1" complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
        }
        complete -F _triad triad

        """#

    private static let zsh = #"""
        #compdef triad
        # triad(1) completion for zsh: the program says what may come next.
        compdef _triad triad
        _triad() {
            local line word
            local -a found
            for line in "${(@f)$("${(Q)words[1]}" complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
                [[ $line == :files ]] && { compset -P '--*='; _files; return }
                word=${line%%$'\t'*}
                [[ -n $word ]] && found+=("${word//:/\\:}:${${line#$word}#$'\t'}")
            done
            _describe triad found
        }
        # Loaded from $fpath this file is the function itself.
        [[ $funcstack[1] == _triad ]] && _triad "$@"

        """#

    private static let fish = #"""
        # triad(1) completion for fish: the program says what may come next.
        function __triad_complete
            set -l words (commandline -opc)
            set -l current (commandline -ct)
            for line in ($words[1] complete $words[2..] "$current" 2>/dev/null)
                if test "$line" = :files
                    __fish_complete_path "$current"
                else
                    echo $line
                end
            end
        end
        complete -c triad -f -a '(__triad_complete)'

        """#
}
