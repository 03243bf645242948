# SPDX-License-Identifier: BSD-2-Clause
# bash completion for ktlsctl(8).  Nothing of ktlsctl runs when Tab is pressed.

_ktlsctl() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command='' word words=''
    COMPREPLY=()

    # bash makes three words of --option=value.
    if [[ $current == = ]]; then
        current=''
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi

    for word in "${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do
        case $word in
        check | selftest | sessions | top | libraries | stats | capture | schema | completion)
            command=$word
            break
            ;;
        esac
    done

    case $previous in
    --format)
        case $command in
        selftest) words='text json tap junit nagios' ;;
        sessions | libraries) words='text json' ;;
        stats) words='text json prometheus' ;;
        *) words='text json nagios prometheus' ;;
        esac
        ;;
    --direction) words='tx rx both' ;;
    --tx | --rx) words='software nic none' ;;
    --datapath) words='auto io_uring socket' ;;
    --fail-on) words='never warning critical' ;;
    --color) words='auto always never' ;;
    --libssl | --from | --output)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    *)
        case $command:$current in
        :-*) words='-h --help --version' ;;
        :*) words='check selftest sessions top libraries stats capture schema completion' ;;
        check:-*)
            words='-h --help --format --json --fail-on --libssl --load --from --output'
            words+=' -q --quiet -v --verbose --color --debug'
            ;;
        selftest:-*)
            words='-h --help --tls1.2 --tls1.3 --suite --direction --datapath --libssl --require --bytes --timeout'
            words+=' --format --json --output -q --quiet -v --verbose --color --debug'
            ;;
        sessions:-*)
            words='-h --help --format --json --all --failed --summary --watch --pid --process --port --cipher --tx --rx'
            words+=' --all-netns --color --debug'
            ;;
        top:-*) words='-h --help --interval --all-netns --debug' ;;
        libraries:-*)
            words='-h --help --pid --process --format --json --output -q --quiet -v --verbose --color --debug'
            ;;
        stats:-*) words='-h --help --watch --pid --format --json --output -q --quiet -v --verbose --color --debug' ;;
        capture:-*) words='-h --help --libssl --load --debug' ;;
        schema:-* | completion:-*) words='-h --help --debug' ;;
        completion:*) words='bash zsh fish' ;;
        capture:*)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return
            ;;
        esac
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -F _ktlsctl ktlsctl
