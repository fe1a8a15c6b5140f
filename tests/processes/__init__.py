"""The author's side and the supervisor, held by real processes without systemd.

What App::Base::Daemon::Supervisor gives a service author, and what its processes do, with the tests that hold it here;
what needs a systemd stands in tests/machines.

What a service author writes and calls
    SupervisedDaemon, async def        test_author: test_unwritten_methods · test_async
    Daemon, its exit statuses          test_author: test_daemon_* · test_async: test_async_daemon
    supervised_process                 test_author: test_returning_worker, test_without_ready_to_take_over
    supervised_shutdown, bounded       test_author: test_error_while_shutting_down, test_signal_during_error
                                       test_stopping: test_stop_is_bounded · test_liveness: test_shutdown_of_an_orphan_*
                                       test_drain: where the code looks at `draining`
    ping_supervisor                    test_author: test_ping, test_no_link
                                       test_liveness: test_ping_to_a_dead_supervisor
    ready_to_take_over                 test_author: test_ready_to_take_over_is_immediate, test_no_link
                                       test_reload: test_order_of_a_reload
                                       test_liveness: test_end_of_the_link_before_its_turn
    can_do_hot_reload                  test_stopping: test_no_reload_without_consent
    is_supervisor, supervisor_pipe     test_author: test_worker_and_its_pipe
    delay_before_respawn, back-off     test_author: test_returning_worker · test_respawn: test_delay, test_*backoff*
    documentation                      test_author: test_help, test_documentation_attribute
    options, get_option                test_author: test_options, test_bad_option, test_bad_definition
                                       tests/unit/test_settings
    usage, --help                      test_author: test_help, test_usage_method, test_bad_option
    parsed_args, orig_args, ...        test_author: test_options
    attributes                         test_author: test_attributes, test_unknown_attribute, test_wrong_setting
    run, three ways                    test_starting: test_all_ways_are_equal and what follows there
    shutdown_signals, PIPE             test_author: test_shutdown_signals, test_broken_pipe, test_daemon_stops
    handle_shutdown                    test_author: test_handle_shutdown_of_a_worker, test_daemon_stops
    error                              test_author: test_error_in_the_worker, test_daemon_error · test_async
    user, group                        test_privileges
    pid_file                           test_starting: test_default_pid_file · test_reload: "pid files"

Processes and signals
    background                         test_starting: test_background*, test_foreground_under_systemd,
                                       test_pid_is_there_when_the_caller_is_back
    ping, takeover, shutdown, others   test_stopping: "words on the link", test_pings_are_answered_during_a_takeover
    worker gone, fork fails            test_respawn: test_exit_in_words, test_fork_failure,
                                       test_no_descriptor_for_a_worker
    SIGUSR2 in the worker              test_stopping: test_usr2_to_everybody, test_signals_of_a_worker
    SIGQUIT, bounded                   test_stopping: test_stop*
    SIGUSR2: same script, arguments    test_reload: test_reload_by_signal, test_reloads_in_a_row · test_deploys
    born as nobody's child             test_reload: test_successor_is_an_orphan_from_birth
    SIGUSR2 during a reload            test_stopping: test_reload_during_a_reload
    deadline to the takeover           test_broken_code: test_never_ready, test_killed_successor
    a new generation skips ...         test_starting: test_background · test_privileges: test_user
    takeover, KILL of the old one      test_takeover: test_hazard_2_*, test_old_worker_that_will_not_stop
    --no-pid-file                      test_reload: test_no_pid_file*
    second start                       test_reload: "second start"
    end of the socketpair              test_liveness: test_end_of_the_link_before_its_turn, test_supervisor_killed*

What App::Base::Daemon::Supervisor lets happen, and must not happen here
    1 the two sides kill each other    test_takeover: test_hazard_1_*
    2 two workers are active: only     test_takeover: test_hazard_2_*
      the old supervisor was killed
    3 a child keeps the lock           test_takeover: test_hazard_3_*
    4 a successor that dies early      test_takeover: test_hazard_4_*
      blocks the next reload for 60 s
    5 nobody learns that a reload      test_takeover: test_hazard_5_*
      failed
    6 no socket listens in between     test_takeover: test_hazard_6_* · test_sockets · test_given_sockets
                                       and tests/machines
    7 signals go to pids that are      tests/unit/test_layers: test_no_signal_by_number
      in use again
    8 root's groups stay               test_privileges: test_groups_of_root_are_dropped

Beyond the tables: test_broken_code (the reload's failures), test_control (the control socket), test_receipt,
test_logging, test_liveness (silent workers), test_drain (`self.draining`), test_async, test_web_examples; any program:
test_command (what it gets, its life), test_command_exclusive, test_command_notify, test_command_stop; test_elsewhere (a
class in a virtual environment of its own); several workers at once: test_pool, test_scaling, test_recycling,
test_command_pool.
"""
