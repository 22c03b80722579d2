# Completions of tubox for bash. tests/box/packaging.rs compares them with the program's own help.
_tubox() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} options kind=
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W \
            "demo serve check status retry admin-url export verify simulate --help --version" -- "$word")
        return
    fi
    case $before in
    --config) kind=-f ;;
    --data-dir | --from) kind=-d ;;
    --listen | --samples | --since | --until | --team) return ;;
    esac
    if [ -z "$kind" ]; then
        case ${COMP_WORDS[1]} in
        demo) options="--listen --data-dir --samples --once" ;;
        serve | admin-url) options="--config" ;;
        check) options="--config --json" ;;
        status) options="--config --json --watch" ;;
        retry) options="--all --config" ;;
        export) options="--from --since --until --team --zip --config --json" kind=-f ;;
        verify) options="--config --json" kind=-d ;;
        simulate) options="--listen" ;;
        *) return ;;
        esac
        case $word in
        -*)
            mapfile -t COMPREPLY < <(compgen -W "$options --help" -- "$word")
            return
            ;;
        esac
    fi
    [ -z "$kind" ] || mapfile -t COMPREPLY < <(compgen "$kind" -- "$word")
}
complete -o filenames -F _tubox tubox
