"""``member add``, ``remove``, ``update``, ``list`` and ``promote``."""

from __future__ import annotations

from typing import Any, Final

from tercet.core.wire.proto import rpc_pb2 as rpc

from .context import Context, Settings
from .failures import BAD_ARGS, BAD_FEATURE, Failure
from .peer_urls import check_peer_urls
from .text import parse_uint
from .unary import Caller, ask_once

__all__ = ["add", "list_all", "promote", "remove", "update"]

LIST: Final = "/etcdserverpb.Cluster/MemberList"


def _member(context: Context) -> int:
    context.need(len(context.arguments) == 1, "member ID is not provided")
    try:
        return parse_uint(context.arguments[0], 16)
    except ValueError as error:
        raise Failure(BAD_ARGS, f"bad member ID arg ({error}), expecting ID in Hex") from None


def _urls(context: Context) -> list[str]:
    context.need(bool(context.text("peer-urls")), "member peer urls not provided")
    return context.text("peer-urls").split(",")


def add(context: Context) -> None:
    """``member add``; prints the settings that the new member must be started with."""
    context.need(bool(context.arguments), "member name not provided")
    if len(context.arguments) > 1:
        likely = [word for word in context.arguments if word.lower().startswith("http")]
        meant = "".join(f", did you mean --peer-urls={word}" for word in likely)
        raise Failure(BAD_ARGS, "too many arguments" + meant)
    urls = _urls(context)
    settings = context.settings()
    check_peer_urls(urls)
    simple = context.printer.format == "simple"
    answer = _add(settings, urls, context.yes("learner"), simple)
    context.show("member_add", answer, context.arguments[0], context.text("peer-urls"))


def _add(settings: Settings, urls: list[str], learner: bool, simple: bool) -> Any:
    with Caller(settings) as caller:
        request = rpc.MemberAddRequest(peerURLs=urls, isLearner=learner)
        answer = caller.ask("/etcdserverpb.Cluster/MemberAdd", request, rpc.MemberAddResponse)
        if not simple:
            return answer
        known = answer.header.member_id
        while True:  # another member may answer now, which does not know the new one yet
            members = caller.ask(LIST, rpc.MemberListRequest(), rpc.MemberListResponse)
            if members.header.member_id == known:
                break
            read = caller.ask("/etcdserverpb.KV/Range", rpc.RangeRequest(key=b"_"), rpc.RangeResponse)
            known = read.header.member_id
        del answer.members[:]
        answer.members.extend(members.members)
        return answer


def remove(context: Context) -> None:
    """``member remove``."""
    member = _member(context)
    path, request = "/etcdserverpb.Cluster/MemberRemove", rpc.MemberRemoveRequest(ID=member)
    answer = ask_once(context.settings(), path, request, rpc.MemberRemoveResponse)
    context.show("member_remove", answer, member)


def update(context: Context) -> None:
    """``member update``: its peer URLs."""
    member = _member(context)
    urls = _urls(context)
    settings = context.settings()
    check_peer_urls(urls)
    path, request = "/etcdserverpb.Cluster/MemberUpdate", rpc.MemberUpdateRequest(ID=member, peerURLs=urls)
    answer = ask_once(settings, path, request, rpc.MemberUpdateResponse)
    context.show("member_update", answer, member)


def list_all(context: Context) -> None:
    """``member list``, as the answering member knows them."""
    consistency = context.text("consistency")
    if consistency not in ("l", "s"):
        raise Failure(BAD_FEATURE, f'unknown consistency flag "{consistency}"')
    request = rpc.MemberListRequest(linearizable="consistency" in context.given and consistency == "l")
    answer = ask_once(context.settings(), LIST, request, rpc.MemberListResponse)
    context.show("member_list", answer)


def promote(context: Context) -> None:
    """``member promote``."""
    member = _member(context)
    path, request = "/etcdserverpb.Cluster/MemberPromote", rpc.MemberPromoteRequest(ID=member)
    answer = ask_once(context.settings(), path, request, rpc.MemberPromoteResponse)
    context.show("member_promote", answer, member)
