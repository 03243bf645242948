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
        check | selftest | enable | disable | undo | history | sessions | top | libraries | stats | capture | schema | \
            completion | snippet)
            command=$word
            break
            ;;
        esac
    done

    case $previous in
    --format)
        case $command in
        selftest) words='text json tap junit nagios' ;;
        snippet) words='text lines json' ;;
        sessions | libraries) words='text json' ;;
        stats) words='text json prometheus' ;;
        *) words='text json nagios prometheus' ;;
        esac
        ;;
    --scenario)
        words='session all bulk short-buffers moving-write-buffer sendfile early-data records key-update'
        words+=' corruption reset read-ahead limits many handover lying-bio'
        ;;
    --direction) words='tx rx both' ;;
    --tx | --rx) words='software nic none' ;;
    --datapath) words='auto io_uring socket' ;;
    --fail-on) words='never warning critical' ;;
    --color) words='auto always never' ;;
    --root)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
        return
        ;;
    --libssl | --from | --output)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    *)
        case $command:$current in
        :-*) words='-h --help --version' ;;
        :*)
            words='check selftest enable disable undo history sessions top libraries stats capture schema completion'
            words+=' snippet'
            ;;
        check:-*)
            words='-h --help --format --json --fail-on --libssl --load --from --fix --diff -y --yes --output'
            words+=' -q --quiet -v --verbose --color --debug'
            ;;
        selftest:-*)
            words='-h --help --tls1.2 --tls1.3 --suite --scenario --list-scenarios --accept --direction --datapath'
            words+=' --libssl --require --bytes --timeout --format --json --output -q --quiet -v --verbose --color --debug'
            ;;
        enable:-*)
            words='-h --help --now --persist --library --tx-only --rx-only --offload --root --despite'
            words+=' --diff -y --yes --json --color --debug'
            ;;
        disable:-*)
            words='-h --help --now --persist --library --tx-only --rx-only --offload --root'
            words+=' --diff -y --yes --json --color --debug'
            ;;
        undo:-*) words='-h --help --root --diff -y --yes --json --color --debug' ;;
        history:-*) words='-h --help --root --json --debug' ;;
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
        snippet:-*) words='-h --help --format --json --debug' ;;
        snippet:*) words='nginx haproxy apache lighttpd stunnel python gnutls postgresql' ;;
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
