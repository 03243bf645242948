#compdef ktlsctl
# SPDX-License-Identifier: BSD-2-Clause
# zsh completion for ktlsctl(8): as _ktlsctl in a directory of $fpath, or sourced.
# Nothing of ktlsctl runs when Tab is pressed.

_ktlsctl_check() {
  _arguments -s \
    '--format=[what to print]:format:(text json nagios prometheus)' \
    '--json[the same as --format json]' \
    '--fail-on=[the mildest verdict that makes the exit status other than 0]:verdict:(never warning critical)' \
    '*--libssl=[also examine this TLS library]:library:_files' \
    '--load[let the probe load the kernel module]' \
    '--from=[judge a captured host]:capture:_files' \
    '--fix[then propose a plan for what was found]' \
    '--diff[with --fix\: show a unified diff of every file]' \
    {-y,--yes}'[with --fix\: carry the plan out without asking]' \
    '--output=[write the report to a file]:file:_files' \
    '(-q --quiet -v --verbose)'{-q,--quiet}'[only what is wrong, and the verdict]' \
    '(-q --quiet -v --verbose)'{-v,--verbose}'[evidence, every reason, every advisory]' \
    '--color=[colour the text]:when:(auto always never)' \
    '--debug[show the traceback of an internal error]' \
    '(- *)'{-h,--help}'[show help]'
}

_ktlsctl_selftest() {
  _arguments -s \
    '--tls1.2[test the suites of TLS 1.2]' \
    '--tls1.3[test the suites of TLS 1.3]' \
    '*--suite=[test only this suite]:suite:' \
    '*--scenario=[run this scenario]:scenario:(session all bulk short-buffers moving-write-buffer sendfile early-data records key-update corruption reset read-ahead limits many handover lying-bio)' \
    '--list-scenarios[say what there is to be run]' \
    '*--accept=[a known defect that is no alarm]:id' \
    '--direction=[what to judge]:direction:(tx rx both)' \
    '--datapath=[how the bytes of the records move]:datapath:(auto io_uring socket)' \
    '--libssl=[test this TLS library]:library:_files' \
    '*--require=[what must be proved, such as tls1.2\:tx,rx]:policy:' \
    '--bytes=[payload of a session each way]:bytes:' \
    '--timeout=[seconds for each session]:seconds:' \
    '--format=[what to print]:format:(text json tap junit nagios)' \
    '--json[the same as --format json]' \
    '--output=[write the report to a file]:file:_files' \
    '(-q --quiet -v --verbose)'{-q,--quiet}'[only what is wrong, and the verdict]' \
    '(-q --quiet -v --verbose)'{-v,--verbose}'[the evidence of every direction]' \
    '--color=[colour the text]:when:(auto always never)' \
    '--debug[show the traceback of an internal error]' \
    '(- *)'{-h,--help}'[show help]'
}

_ktlsctl_enable() {
  _arguments -s \
    '--now[switch it on in the running kernel]' \
    '--persist[have it on after every boot]' \
    '--library=[switch it on in the configuration of a TLS library]:library:' \
    '(--rx-only)--tx-only[sending alone]' \
    '(--tx-only)--rx-only[receiving alone]' \
    '*--offload=[also switch the TLS offload of this interface]:interface:' \
    '--root=[work on the system below this directory]:directory:_directories' \
    '*--despite=[accept that this program may be hurt]:program:' \
    '--diff[show a unified diff of every file]' \
    {-y,--yes}'[carry the plan out without asking]' \
    '--json[print one JSON document]' \
    '--color=[colour the text]:when:(auto always never)' \
    '--debug[show the traceback of an internal error]' \
    '(- *)'{-h,--help}'[show help]'
}

_ktlsctl_disable() {
  _arguments -s \
    '--now[switch it off in the running kernel]' \
    '--persist[have it off after every boot]' \
    '--library=[switch it off in the configuration of a TLS library]:library:' \
    '(--rx-only)--tx-only[sending alone]' \
    '(--tx-only)--rx-only[receiving alone]' \
    '*--offload=[also switch the TLS offload of this interface]:interface:' \
    '--root=[work on the system below this directory]:directory:_directories' \
    '--diff[show a unified diff of every file]' \
    {-y,--yes}'[carry the plan out without asking]' \
    '--json[print one JSON document]' \
    '--color=[colour the text]:when:(auto always never)' \
    '--debug[show the traceback of an internal error]' \
    '(- *)'{-h,--help}'[show help]'
}

_ktlsctl_undo() {
  _arguments -s \
    '--root=[work on the system below this directory]:directory:_directories' \
    '--diff[show a unified diff of every file]' \
    {-y,--yes}'[carry the plan out without asking]' \
    '--json[print one JSON document]' \
    '--color=[colour the text]:when:(auto always never)' \
    '--debug[show the traceback of an internal error]' \
    '(- *)'{-h,--help}'[show help]' \
    '1:run:'
}

_ktlsctl_history() {
  _arguments -s \
    '--root=[work on the system below this directory]:directory:_directories' \
    '--json[print one JSON document]' \
    '--debug[show the traceback of an internal error]' \
    '(- *)'{-h,--help}'[show help]'
}

_ktlsctl_sessions() {
  _arguments -s \
    '--format=[what to print]:format:(text json)' \
    '--json[the same as --format json]' \
    '(--failed)--all[also list sockets without kernel TLS]' \
    '(--all)--failed[list only sockets that tried]' \
    '--summary[one line, from the counters]' \
    '--watch=[print again every so many seconds]::seconds:' \
    '*--pid=[only this process]:pid:_pids' \
    '*--process=[only processes of this name]:name:' \
    '*--port=[only this port]:port:' \
    '*--cipher=[only this cipher]:cipher:' \
    '--tx=[only sockets that send like this]:mode:(software nic none)' \
    '--rx=[only sockets that receive like this]:mode:(software nic none)' \
    '--all-netns[look into every network namespace]' \
    '--color=[colour the text]:when:(auto always never)' \
    '--debug[show the traceback of an internal error]' \
    '(- *)'{-h,--help}'[show help]'
}

_ktlsctl_top() {
  _arguments -s \
    '--interval=[seconds between two looks]:seconds:' \
    '--all-netns[look into every network namespace]' \
    '--debug[show the traceback of an internal error]' \
    '(- *)'{-h,--help}'[show help]'
}

_ktlsctl_libraries() {
  _arguments -s \
    '*--pid=[only this process]:pid:_pids' \
    '*--process=[only processes of this name]:name:' \
    '--format=[what to print]:format:(text json)' \
    '--json[the same as --format json]' \
    '--output=[write the report to a file]:file:_files' \
    '(-q --quiet -v --verbose)'{-q,--quiet}'[only what is wrong, and the verdict]' \
    '(-q --quiet -v --verbose)'{-v,--verbose}'[with evidence]' \
    '--color=[colour the text]:when:(auto always never)' \
    '--debug[show the traceback of an internal error]' \
    '(- *)'{-h,--help}'[show help]'
}

_ktlsctl_stats() {
  _arguments -s \
    '--watch=[print again every so many seconds]::seconds:' \
    '--pid=[the numbers of the network namespace of this process]:pid:_pids' \
    '--format=[what to print]:format:(text json prometheus)' \
    '--json[the same as --format json]' \
    '--output=[write the report to a file]:file:_files' \
    '(-q --quiet -v --verbose)'{-q,--quiet}'[only what is wrong, and the verdict]' \
    '(-q --quiet -v --verbose)'{-v,--verbose}'[with evidence]' \
    '--color=[colour the text]:when:(auto always never)' \
    '--debug[show the traceback of an internal error]' \
    '(- *)'{-h,--help}'[show help]'
}

_ktlsctl_capture() {
  _arguments -s \
    '*--libssl=[also record this TLS library]:library:_files' \
    '--load[let the probe load the kernel module]' \
    '--debug[show the traceback of an internal error]' \
    '(- *)'{-h,--help}'[show help]' \
    '1:file:_files'
}

_ktlsctl_schema() {
  _arguments -s \
    '--debug[show the traceback of an internal error]' \
    '(- *)'{-h,--help}'[show help]'
}

_ktlsctl_completion() {
  _arguments -s \
    '--debug[show the traceback of an internal error]' \
    '(- *)'{-h,--help}'[show help]' \
    '1:shell:(bash zsh fish)'
}

_ktlsctl_snippet() {
  _arguments -s \
    '--format=[what to print]:format:(text lines json)' \
    '--json[the same as --format json]' \
    '--debug[show the traceback of an internal error]' \
    '(- *)'{-h,--help}'[show help]' \
    '1:application:(nginx haproxy apache lighttpd stunnel python gnutls postgresql)'
}

_ktlsctl() {
  local state
  local -a line commands
  commands=(
    'check:can this host do kernel TLS, and if not, why?'
    'selftest:does a real TLS session get kernel TLS, with which suite?'
    'enable:switch kernel TLS on, now and after every boot'
    'disable:switch kernel TLS off, now and at every boot'
    'undo:put back what a run of enable or disable changed'
    'history:list the runs that can be undone'
    'sessions:which sockets of which programs are in the kernel right now?'
    'top:watch sessions by process'
    'libraries:which TLS library does each running program carry?'
    'stats:what has the kernel counted?'
    'capture:freeze what this host says, for someone else to judge'
    'schema:print the JSON Schema of the reports'
    'completion:print the completion file for a shell'
    'snippet:how is an application told to use kernel TLS?'
  )
  _arguments -C \
    '(- *)--version[show the version]' \
    '(- *)'{-h,--help}'[show help]' \
    '1: :->command' \
    '*:: :->arguments'
  case $state in
    command) _describe command commands ;;
    arguments) (( $+functions[_ktlsctl_$line[1]] )) && _ktlsctl_$line[1] ;;
  esac
}

if [[ $funcstack[1] == _ktlsctl ]]; then
  _ktlsctl "$@"
else
  compdef _ktlsctl ktlsctl
fi
