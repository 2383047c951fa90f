-- Takes the wallet room away, with everything it stored.

DROP FUNCTION wallet_verify(uuid), wallet_reconcile(), wallet_totals(), wallet_checks(uuid);
DROP FUNCTION
    wallet_problems_balances(uuid), wallet_problems_holds(uuid), wallet_problems_settlements(uuid), wallet_problems_totals(uuid),
    wallet_problems_chain(uuid), wallet_problems_overdue(uuid), wallet_problems_usage(uuid), wallet_problems_requests(uuid),
    wallet_problems_credits(uuid);
DROP FUNCTION
    wallet_open(uuid, bigint, uuid, uuid), wallet_adjust(uuid, bigint, text, uuid, uuid),
    wallet_top_up(uuid, text, text, bigint, uuid, uuid), wallet_issue_vouchers(uuid, bigint, timestamptz, bytea[], uuid, text),
    wallet_guess_voucher(uuid, text, bytea, uuid, integer, integer, integer), wallet_redeem(uuid, bytea, uuid, uuid),
    wallet_move(uuid, text, text, text, bigint, uuid, uuid, text), caller_operates();
DROP FUNCTION
    wallet_reserve(uuid, bigint, text, integer, uuid, uuid, uuid), wallet_release(uuid, uuid, uuid, uuid),
    wallet_finalize(uuid, bigint, uuid, uuid, uuid), wallet_deliver(uuid, bigint), wallet_expire(integer, uuid),
    wallet_expire_overdue(uuid, uuid), wallet_settle(wallet, reservation, text, bigint, uuid, uuid, uuid),
    wallet_post(wallet, text, text, text, bigint, uuid, uuid, uuid, text),
    ledger_hash(bytea, uuid, bigint, text, text, text, bigint, bigint, uuid, uuid, uuid, timestamptz, text);
DROP TABLE top_up, voucher_failure, voucher, voucher_batch, ledger_entry, reservation, wallet;
DROP FUNCTION refuse_change(), ledger_entry_is_sound(text, text, text, bigint, bigint, boolean),
    reservation_is_sound(text, bigint, bigint, text, bigint, bigint, bigint, bigint, timestamptz, timestamptz, timestamptz);
