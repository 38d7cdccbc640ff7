//! What the demo does, written once, over real sockets, on every adapter.

mod admin;
mod alike;
mod app;
mod blocks;
mod body;
mod callbacks;
#[allow(dead_code, reason = "the tests of processes use the other part")]
#[path = "../client/mod.rs"]
mod client;
mod doors;
mod end;
mod ended;
mod hostile;
mod http2;
mod lifetimes;
mod live;
mod me;
#[cfg(feature = "nginx-tests")]
mod nginx;
mod operations;
mod outage;
mod paths;
mod private;
mod raw;
mod roles;
mod rotations;
mod sealed;
#[cfg(feature = "server-tests")]
mod servers;
mod session;
mod socket;
mod stores;
mod streams;
mod tickets;
mod way_back;
mod wire;

use std::time::Duration;

use app::Ground;
use session_demo::Adapter;
use stores::Kind;

/// How long anything may take that happens soon. No test waits for it but one that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One test for each behaviour in the list.
macro_rules! tests {
    ($ground:expr; $($subject:ident { $($behaviour:ident)+ })+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                crate::$subject::$behaviour($ground).await;
            }
        )+)+
    };
}

/// Every behaviour of the library, the same on each framework.
macro_rules! behaviours {
    ($ground:expr) => {
        tests! { $ground;
            session {
                a_session_begins_is_known_and_ends
                a_second_sign_out_does_no_harm
                a_refusal_writes_no_cookie
                changes_of_the_data_are_not_lost
                rotation_replaces_the_cookie
                a_proof_of_the_password_refreshes_the_session
                a_stolen_token_ends_the_session
                a_page_of_another_origin_signs_nobody_in_or_out
                signing_in_again_leaves_no_session_behind
                the_request_says_what_the_session_records
                client_hints_say_more_than_the_agent
                a_quoted_address_is_text
                a_name_that_looks_like_another_is_refused
                prefetches_and_preflights_do_not_keep_a_session_alive
                the_same_device_is_never_refused
                a_sign_in_whose_answer_is_lost_signs_nobody_out
                a_limit_that_rejects_answers_409
            }
            me {
                a_user_lists_and_ends_their_own_sessions_only
                the_own_session_comes_first_and_all_are_reached
                a_page_signs_its_own_session_out
                state_changing_calls_need_a_proof_of_origin
                pages_load_only_themselves
            }
            admin {
                only_admins_administer
                filters_and_pages
                an_admin_of_a_tenant_stays_within_its_walls
                details_and_revocation
                policies_are_set_shown_and_inherited
                a_policy_is_changed_by_who_has_seen_it
                users_of_any_name_are_revoked
                the_event_stream_tells_of_everybody_within_the_walls
            }
            tickets {
                a_refused_user_ends_a_session_and_is_signed_in
                a_ticket_is_good_for_its_user_and_for_a_while
                an_app_gets_its_token_for_a_ticket
                a_browser_is_offered_the_choice
            }
            ended {
                the_sign_in_page_says_why
                a_stranger_is_told_nothing
                ended_sessions_are_listed_within_the_walls
                a_user_is_not_told_who_an_admin_is
                without_a_history_nothing_is_kept
                a_user_names_a_device
                a_user_is_exported_and_erased
                users_of_any_name_are_exported_and_erased
                addresses_are_kept_as_the_options_say
            }
            blocks {
                a_blocked_user_is_out
                tenants_and_the_deployment_are_blocked
                a_block_ends_at_its_time
                sign_ins_race_a_block
                an_incident_ends_what_all_filters_select
            }
            rotations {
                a_lost_rotation_is_repeated
                many_rotations_of_one_token_are_one
                a_replaced_token_gains_no_freshness
                a_token_is_renewed_by_navigations_only
                another_users_session_is_left_behind_ended
                who_acts_as_another_is_shown_and_administers_nothing
            }
            lifetimes {
                a_step_up_restarts_both_timeouts
                sessions_have_timeouts_of_their_own
            }
            roles {
                roles_change_within_the_bound
                only_root_gives_roles
            }
            doors {
                an_app_gets_its_token_in_the_answer
                a_bearer_needs_no_origin
                several_cookies_are_judged
                an_old_cookie_beside_the_new_one_is_no_theft
                a_planted_cookie_does_not_outlive_a_sign_in
                sister_origins_may_be_allowed
                remembered_sign_ins_outlive_the_browser
                ending_others_needs_a_fresh_sign_in
                an_application_may_ask_for_same_origin
                a_signed_token_names_its_session
                empty_parameters_are_refused
                a_prefetch_hides_no_use
                reads_because_of_an_event_are_passive
                an_admins_stream_ends_with_the_role
            }
            callbacks {
                a_callback_brings_its_own_proof
                a_callback_is_good_once
                a_provider_says_when_and_how_its_user_proved_who_they_are
                a_flow_remembers_its_session_and_a_browser_few_flows
                several_accounts_are_signed_in_side_by_side
            }
            streams {
                an_event_stream_ends_with_its_session
                events_arrive_as_they_happen
                open_streams_have_a_ceiling
                a_stream_tells_why_its_session_ended
            }
            live {
                a_socket_ends_with_its_session
                a_body_ends_with_its_session
                a_node_that_cannot_tell_closes_its_sockets
                a_node_that_stops_closes_its_sockets
                a_socket_needs_a_session_and_a_proof_of_origin
                open_sockets_have_a_ceiling
                an_open_socket_keeps_no_session_alive
            }
            operations {
                a_probe_learns_whether_the_node_is_ready
                prometheus_reads_the_metrics
            }
            outage {
                an_outage_is_no_refusal
            }
            end {
                shutdown_ends_streams_and_writes_back
            }
            private {
                pages_of_a_session_are_private
                pages_of_nobody_are_left_alone
                an_application_may_decide_about_caching_itself
            }
            sealed {
                every_answer_of_the_library_is_sealed
            }
            way_back {
                a_browser_is_sent_to_sign_in_and_back
                the_way_back_leads_to_this_origin_only
            }
            paths {
                files_of_the_pages_are_sent_once
                a_head_is_a_get_without_a_body
                every_path_says_which_methods_it_takes
                a_path_is_decoded_once_and_by_its_parts
                a_slash_more_or_less_leads_to_the_page
                dots_lead_nowhere
            }
            body {
                an_announced_body_is_refused_before_it_is_sent
                a_body_without_an_end_is_refused_at_the_limit
                a_refused_body_is_not_read_to_its_end
                a_slow_body_is_not_waited_for
                identity_and_origin_come_before_the_body
            }
            wire {
                pipelined_requests_are_answered_in_turn
                a_head_is_answered_without_a_byte_of_body
                what_is_too_long_is_refused
                many_cookies_do_not_hide_ours
                a_client_may_leave_in_the_middle_of_a_sign_in
                a_client_may_leave_in_the_middle_of_a_stream
            }
            http2 {
                everything_works_over_http_2
                the_origin_is_compared_with_the_authority
            }
            hostile {
                nothing_makes_the_server_fail
                no_answer_reveals_whether_a_session_exists
            }
        }
    };
}

/// Those that lean on the store, for a round on each kind.
macro_rules! stored_behaviours {
    ($ground:expr) => {
        tests! { $ground;
            session {
                a_session_begins_is_known_and_ends
                a_refusal_writes_no_cookie
                rotation_replaces_the_cookie
                signing_in_again_leaves_no_session_behind
                the_request_says_what_the_session_records
                the_same_device_is_never_refused
                a_sign_in_whose_answer_is_lost_signs_nobody_out
                a_limit_that_rejects_answers_409
            }
            me {
                a_user_lists_and_ends_their_own_sessions_only
                the_own_session_comes_first_and_all_are_reached
            }
            admin {
                filters_and_pages
                an_admin_of_a_tenant_stays_within_its_walls
                details_and_revocation
                policies_are_set_shown_and_inherited
                a_policy_is_changed_by_who_has_seen_it
                the_event_stream_tells_of_everybody_within_the_walls
            }
            tickets {
                a_refused_user_ends_a_session_and_is_signed_in
            }
            ended {
                the_sign_in_page_says_why
                ended_sessions_are_listed_within_the_walls
                a_user_is_not_told_who_an_admin_is
                without_a_history_nothing_is_kept
                a_user_names_a_device
                a_user_is_exported_and_erased
            }
            blocks {
                a_blocked_user_is_out
                tenants_and_the_deployment_are_blocked
                sign_ins_race_a_block
                an_incident_ends_what_all_filters_select
            }
            rotations {
                a_lost_rotation_is_repeated
                many_rotations_of_one_token_are_one
                another_users_session_is_left_behind_ended
                who_acts_as_another_is_shown_and_administers_nothing
            }
            lifetimes {
                a_step_up_restarts_both_timeouts
                sessions_have_timeouts_of_their_own
            }
            roles {
                roles_change_within_the_bound
            }
            doors {
                an_app_gets_its_token_in_the_answer
                several_cookies_are_judged
                a_prefetch_hides_no_use
            }
            streams {
                an_event_stream_ends_with_its_session
                a_stream_tells_why_its_session_ended
            }
            live {
                a_socket_ends_with_its_session
                a_node_that_cannot_tell_closes_its_sockets
            }
            end {
                shutdown_ends_streams_and_writes_back
            }
        }
    };
}

/// A module of tests for each adapter.
macro_rules! adapters {
    ($($module:ident: $adapter:ident,)+) => {
        /// The adapters that serve.
        pub(crate) const ADAPTERS: &[Adapter] = &[$(Adapter::$adapter),+];
        $(
            mod $module {
                behaviours!(crate::Ground::memory(crate::Adapter::$adapter));
                #[cfg(feature = "nginx-tests")]
                tests! { crate::Ground::memory(crate::Adapter::$adapter);
                    nginx {
                        events_arrive_through_nginx
                        the_address_is_the_clients_behind_nginx
                        a_browser_works_through_nginx
                    }
                }
            }
        )+
    };
}

/// A module of tests for each store, with the adapter that it is tested with.
macro_rules! stores {
    ($($(#[$condition:meta])? $module:ident: $adapter:ident on $store:ident,)+) => {
        $(
            $(#[$condition])?
            mod $module {
                const GROUND: crate::Ground = crate::Ground {
                    adapter: crate::Adapter::$adapter,
                    store: crate::Kind::$store,
                };
                stored_behaviours!(GROUND);
            }
        )+
    };
}

adapters! {
    axum: Axum,
    actix: Actix,
    poem: Poem,
}

stores! {
    sqlite: Axum on Sqlite,
    #[cfg(feature = "server-tests")]
    postgres: Actix on Postgres,
    #[cfg(feature = "server-tests")]
    mysql: Poem on MySql,
    #[cfg(feature = "server-tests")]
    redis: Axum on Redis,
    #[cfg(feature = "server-tests")]
    redis_cluster: Actix on RedisCluster,
    #[cfg(feature = "server-tests")]
    mongodb: Poem on MongoDb,
}
