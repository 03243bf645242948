# SPDX-License-Identifier: BSD-2-Clause
# fish completion for ktlsctl(8).  Nothing of ktlsctl runs when Tab is pressed.

complete -c ktlsctl -f
complete -c ktlsctl -s h -l help -d 'Show help'
complete -c ktlsctl -n __fish_use_subcommand -l version -d 'Show the version'
complete -c ktlsctl -n __fish_use_subcommand -a check -d 'Can this host do kernel TLS, and if not, why?'
complete -c ktlsctl -n __fish_use_subcommand -a selftest -d 'Does a real TLS session get kernel TLS, with which suite?'
complete -c ktlsctl -n __fish_use_subcommand -a capture -d 'Freeze what this host says'
complete -c ktlsctl -n __fish_use_subcommand -a schema -d 'Print the JSON Schema of the reports'
complete -c ktlsctl -n __fish_use_subcommand -a completion -d 'Print a completion file'

complete -c ktlsctl -n '__fish_seen_subcommand_from check' -l format -x -a 'text json nagios prometheus' -d 'What to print'
complete -c ktlsctl -n '__fish_seen_subcommand_from check' -l json -d 'The same as --format json'
complete -c ktlsctl -n '__fish_seen_subcommand_from check' -l fail-on -x -a 'never warning critical' -d 'Mildest verdict that does not exit 0'
complete -c ktlsctl -n '__fish_seen_subcommand_from check' -l libssl -r -F -d 'Also examine this TLS library'
complete -c ktlsctl -n '__fish_seen_subcommand_from check' -l load -d 'Let the probe load the kernel module'
complete -c ktlsctl -n '__fish_seen_subcommand_from check' -l from -r -F -d 'Judge a captured host'
complete -c ktlsctl -n '__fish_seen_subcommand_from check' -l output -r -F -d 'Write the report to a file'
complete -c ktlsctl -n '__fish_seen_subcommand_from check' -s q -l quiet -d 'Only what is wrong, and the verdict'
complete -c ktlsctl -n '__fish_seen_subcommand_from check' -s v -l verbose -d 'Evidence, every reason, every advisory'
complete -c ktlsctl -n '__fish_seen_subcommand_from check' -l color -x -a 'auto always never' -d 'Colour the text'
complete -c ktlsctl -n '__fish_seen_subcommand_from check' -l debug -d 'Show the traceback of an internal error'

complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -l tls1.2 -d 'Test the suites of TLS 1.2'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -l tls1.3 -d 'Test the suites of TLS 1.3'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -l suite -x -d 'Test only this suite'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -l scenario -x -a 'session all bulk short-buffers moving-write-buffer sendfile early-data records key-update corruption reset read-ahead limits many handover lying-bio' -d 'Run this scenario'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -l list-scenarios -d 'What there is to be run'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -l accept -x -d 'A known defect that is no alarm'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -l direction -x -a 'tx rx both' -d 'What to judge'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -l datapath -x -a 'auto io_uring socket' -d 'How the bytes of the records move'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -l libssl -r -F -d 'Test this TLS library'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -l require -x -d 'What must be proved, such as tls1.2:tx,rx'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -l bytes -x -d 'Payload of a session each way'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -l timeout -x -d 'Seconds for each session'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -l format -x -a 'text json tap junit nagios' -d 'What to print'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -l json -d 'The same as --format json'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -l output -r -F -d 'Write the report to a file'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -s q -l quiet -d 'Only what is wrong, and the verdict'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -s v -l verbose -d 'The evidence of every direction'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -l color -x -a 'auto always never' -d 'Colour the text'
complete -c ktlsctl -n '__fish_seen_subcommand_from selftest' -l debug -d 'Show the traceback of an internal error'

complete -c ktlsctl -n '__fish_seen_subcommand_from capture' -F
complete -c ktlsctl -n '__fish_seen_subcommand_from capture' -l libssl -r -F -d 'Also record this TLS library'
complete -c ktlsctl -n '__fish_seen_subcommand_from capture' -l load -d 'Let the probe load the kernel module'
complete -c ktlsctl -n '__fish_seen_subcommand_from capture' -l debug -d 'Show the traceback of an internal error'

complete -c ktlsctl -n '__fish_seen_subcommand_from schema' -l debug -d 'Show the traceback of an internal error'

complete -c ktlsctl -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'
complete -c ktlsctl -n '__fish_seen_subcommand_from completion' -l debug -d 'Show the traceback of an internal error'
