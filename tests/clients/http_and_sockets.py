#!/usr/bin/env python3
"""The HTTP and WebSocket edge as Python's httpx, websockets and msgpack see it.

    http_and_sockets.py http://ADDR:PORT [TEST…]

Every test makes topics of its own, so one broker serves many runs.
"""

import asyncio
import base64
import gzip
import json
import math
import os
import sys
import time
import traceback
from datetime import datetime, timezone

import httpx
import msgpack
import websockets

BASE = sys.argv[1].rstrip("/") if len(sys.argv) > 1 else sys.exit(__doc__)
SOCKETS = BASE.replace("http", "ws", 1)
BATCH = "application/vnd.weir.messages"
WAIT = 20  # seconds anything may take
TESTS = {}
counts = {"checks": 0}


def test(function):
    TESTS[function.__name__] = function
    return function


def same(what, got, wanted):
    counts["checks"] += 1
    assert got == wanted, f"{what}:\n    wanted: {wanted!r}\n    got:    {got!r}"


def holds(what, truth, got=None):
    counts["checks"] += 1
    assert truth, f"{what}: got {got!r}"


def topic(name):
    return f"py-{os.getpid()}.{name}"


def url(name, rest="/messages"):
    return f"{BASE}/v1/topics/{topic(name)}{rest}"


def new_client():
    return httpx.AsyncClient(timeout=WAIT, trust_env=False)


def refused(what, answer, status, code, field=None):
    """The answer is a problem object."""
    same(f"{what}: status", answer.status_code, status)
    same(f"{what}: content type", answer.headers.get("content-type"), "application/problem+json")
    problem(what, answer.json(), status, code, field)


def problem(what, found, status, code, field=None):
    same(f"{what}: status and code", (found.get("status"), found.get("code")), (status, code))
    same(f"{what}: types", [type(found.get(k)) for k in ("type", "title", "detail", "temporary")], [str, str, str, bool])
    if field is not None:
        holds(f"{what}: the detail names {field}", field in found["detail"], found["detail"])


def socket(name, rest, **more):
    more = {"proxy": None, "compression": None, "max_size": None, "open_timeout": WAIT, **more}
    return websockets.connect(f"{SOCKETS}/v1/topics/{topic(name)}/{rest}", **more)


async def receive(ws):
    """The next frame, as what it says, in JSON or MessagePack."""
    return decoded(await asyncio.wait_for(ws.recv(), WAIT))


def decoded(frame):
    return json.loads(frame) if isinstance(frame, str) else msgpack.unpackb(frame, strict_map_key=False)


async def quiet(ws, seconds=0.3):
    """Nothing is sent on this socket."""
    try:
        frame = await asyncio.wait_for(ws.recv(), seconds)
    except asyncio.TimeoutError:
        return
    raise AssertionError(f"nothing should be sent, but this was: {frame!r}")


async def welcome(ws):
    frame = await receive(ws)
    same("the first frame", list(frame), ["welcome"])
    return frame["welcome"]


async def acks_of(ws, count):
    """So many acknowledgements, errors among them, in the order they came."""
    found = []
    while len(found) < count:
        frame = await receive(ws)
        same("a frame of acks", list(frame), ["acks"])
        found += frame["acks"]
    same("number of acks", len(found), count)
    return found


async def range_up_to(ws, last, first=1):
    """Ranges of acks without holes, up to the last."""
    while first <= last:
        frame = await receive(ws)
        same("a range of acks", list(frame), ["acked"])
        same("where the range begins", frame["acked"]["from"], first)
        holds("where it ends", first <= frame["acked"]["to"] <= last, frame)
        first = frame["acked"]["to"] + 1


async def tail(ws, count, gaps=None):
    """So many messages of a tail."""
    found = []
    while len(found) < count:
        frame = await receive(ws)
        if gaps is not None and "gap" in frame:
            gaps.append((frame["gap"]["from"], frame["gap"]["to"]))
            continue
        same("a frame of messages", list(frame), ["messages"])
        found += frame["messages"]
    return found


async def poll(client, name, accept=None, **query):
    headers = {"accept": accept} if accept else {}
    answer = await client.get(url(name), params=query, headers=headers)
    same(f"poll {query}: status", answer.status_code, 200)
    return answer


async def publish(client, name, content, content_type="application/json", **headers):
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    if content_type:
        headers["content-type"] = content_type
    answer = await client.post(url(name), content=content, headers=headers)
    same(f"publish to {name}: status ({answer.text})", answer.status_code, 202)
    return answer.json()


async def eventually(what, condition):
    """Asks again and again, until the answer is yes."""
    end = time.monotonic() + WAIT
    while True:
        found = await condition()
        if found:
            counts["checks"] += 1
            return found
        assert time.monotonic() < end, f"{what}: did not come to pass"
        await asyncio.sleep(0.02)


# --- producer sockets ---------------------------------------------------------------------------


@test
async def json_producer():
    async with new_client() as client, socket("json", "producer", subprotocols=["weir.v1"]) as ws:
        same("subprotocol", ws.subprotocol, "weir.v1")
        hello = await welcome(ws)
        same("protocol", hello["protocol"], "weir.v1")
        same("settings", [hello[k] for k in ("mode", "ack_level", "loss_bound_ms")], ["hml", "sync", 0])
        holds("credit", hello["credit"]["messages"] > 0 and hello["credit"]["bytes"] > 0, hello)
        same("message_bytes_max", hello["message_bytes_max"], 1048576)
        holds("no resume_after without a name", "resume_after" not in hello, hello)

        await ws.send('{"id":1,"data":{"a":1}}')
        (ack,) = await acks_of(ws, 1)
        same("members of an ack", sorted(ack), ["duplicate", "id", "offset", "receipt"])
        same("the ack", (ack["id"], ack["offset"], ack["duplicate"]), (1, 0, False))
        await ws.send('[{"id":"two","data":2},{"data":"no id"},{"id":3.5,"data":3},{"id":-4,"data":null}]')
        acks = await acks_of(ws, 3)
        same("ids and offsets of an array", [(a["id"], a["offset"]) for a in acks], [("two", 1), (3.5, 3), (-4, 4)])
        await ws.send('{"data":"one-way"}')
        await ws.send('{"id":"last","data":6}')
        same("one-way gets no ack", [(a["id"], a["offset"]) for a in await acks_of(ws, 1)], [("last", 6)])
        await ws.send(json.dumps({"id": 9, "data_base64": "AAH/", "content_type": "image/png", "key": "k",
                                  "message_id": "m", "attributes": {"a": "b"}, "ttl_ms": 600000}))
        await acks_of(ws, 1)
        found = (await poll(client, "json")).json()
        same("data", [m.get("data") for m in found["messages"]], [{"a": 1}, 2, "no id", 3, None, "one-way", 6, None])
        same("receipt", found["messages"][0]["receipt"], ack["receipt"])
        last = found["messages"][7]
        same("all fields", {k: last.get(k) for k in ("data_base64", "content_type", "key", "message_id", "attributes", "ttl_ms")},
             {"data_base64": "AAH/", "content_type": "image/png", "key": "k", "message_id": "m", "attributes": {"a": "b"}, "ttl_ms": 600000})
        holds("an id is not stored", "id" not in last, last)


@test
async def msgpack_producer():
    async with new_client() as client, socket("msgpack", "producer") as ws:
        await welcome(ws)
        await ws.send(msgpack.packb({"id": 1, "data": {"a": [1, 2.5, None, True, "ü"]}}))
        frame = await asyncio.wait_for(ws.recv(), WAIT)
        holds("the ack of a binary frame is a binary frame", isinstance(frame, bytes), frame)
        ack = decoded(frame)["acks"][0]
        same("the ack", (ack["id"], ack["offset"], ack["duplicate"], len(ack["receipt"])), (1, 0, False, 36))
        await ws.send(msgpack.packb([{"id": "b", "data": b"\x00\xff", "content_type": "image/png"},
                                     {"id": "c", "data": b"bytes"},
                                     {"id": "d", "data": "text", "content_type": "text/plain"},
                                     {"id": "e", "data": 5, "key": "k", "attributes": {"x": "y"}, "message_id": "m", "ttl_ms": 600000}]))
        same("ids", [a["id"] for a in await acks_of(ws, 4)], ["b", "c", "d", "e"])
        found = (await poll(client, "msgpack")).json()["messages"]
        same("as JSON", found[0]["data"], {"a": [1, 2.5, None, True, "ü"]})
        same("types", [m["content_type"] for m in found],
             ["application/json", "image/png", "application/octet-stream", "text/plain", "application/json"])
        same("bytes", [m.get("data_base64") for m in found], [None, "AP8=", "Ynl0ZXM=", None, None])
        same("text and fields", [found[3]["data"], found[4]["data"], found[4]["key"], found[4]["attributes"], found[4]["message_id"], found[4]["ttl_ms"]],
             ["text", 5, "k", {"x": "y"}, "m", 600000])
        # Both kinds of frame on one socket.
        await ws.send('{"id":"f","data":1}')
        same("a text frame after binary ones", (await acks_of(ws, 1))[0]["id"], "f")


@test
async def raw_producer():
    async with new_client() as client, socket("raw", "producer", subprotocols=["weir.raw.v1"]) as ws:
        same("subprotocol", ws.subprotocol, "weir.raw.v1")
        same("protocol", (await welcome(ws))["protocol"], "weir.raw.v1")
        payloads = [b"\x00\x01\xff", "text ü", b"", '{"data":1}', b"x" * 70000]
        for payload in payloads:
            await ws.send(payload)
        await range_up_to(ws, len(payloads))
        for offset, payload in enumerate(payloads):
            answer = await client.get(url("raw", f"/messages/{offset}"))
            same(f"payload {offset}", answer.content, payload.encode() if isinstance(payload, str) else payload)
    async with socket("raw", "producer?acks=each", subprotocols=["weir.raw.v1"]) as ws:
        await welcome(ws)
        await ws.send(b"a")
        await ws.send(b"b")
        same("acks one by one", [(a["id"], a["offset"], a["duplicate"]) for a in await acks_of(ws, 2)], [(1, 5, False), (2, 6, False)])
    async with new_client() as client, socket("raw", "producer?acks=none", subprotocols=["weir.raw.v1"]) as ws:
        await welcome(ws)
        await ws.send(b"c")
        await eventually("a message without acks is stored", lambda: has_head(client, "raw", 8))
        await quiet(ws)
    async with socket("raw", "producer?producer=R", subprotocols=["weir.raw.v1"]) as ws:
        await welcome(ws)
        for payload in b"d", b"e", b"f":
            await ws.send(payload)
        await range_up_to(ws, 3)
    async with new_client() as client, socket("raw", "producer?producer=R", subprotocols=["weir.raw.v1"]) as ws:
        same("resume_after", (await welcome(ws)).get("resume_after"), 3)
        await ws.send(b"g")
        await range_up_to(ws, 4, first=4)
        same("the fourth is stored once", (await client.get(url("raw", "/messages/11"))).content, b"g")
        same("head", (await client.get(url("raw", ""))).json()["head"], 12)


async def has_head(client, name, head):
    answer = await client.get(url(name, ""))
    return answer.status_code == 200 and answer.json()["head"] == head


@test
async def range_acks():
    async with socket("range", "producer?acks=range") as ws:
        await welcome(ws)
        for n in range(1, 1001):
            await ws.send(json.dumps({"id": n, "data": n}))
        await range_up_to(ws, 1000)
        await ws.send(json.dumps([{"id": n, "data": n} for n in range(1001, 1101)]))
        await range_up_to(ws, 1100, first=1001)
        await ws.send('[{"id":1101,"data":1},{"id":1102,"data":2,"colour":1},{"id":1103,"data":3}]')
        acked, errors = [], []
        while len(acked) + len(errors) < 3:
            frame = await receive(ws)
            if "acks" in frame:
                errors += frame["acks"]
            else:
                acked += range(frame["acked"]["from"], frame["acked"]["to"] + 1)
        same("what was taken", acked, [1101, 1103])
        same("what was not", [e["id"] for e in errors], [1102])
        problem("an error one by one", errors[0]["error"], 400, "invalid-request", "colour")


@test
async def no_acks():
    async with new_client() as client, socket("none", "producer?acks=none") as ws:
        await welcome(ws)
        for n in range(10):
            await ws.send(json.dumps({"id": n, "data": n}))
        await eventually("what gets no acks is stored", lambda: has_head(client, "none", 10))
        await quiet(ws)


@test
async def credit():
    """More than the credit at once: the socket is not read for a while, and all are acknowledged."""
    async with new_client() as client, socket("credit", "producer") as ws:
        many = 3 * (await welcome(ws))["credit"]["messages"]

        async def send():
            for n in range(many):
                await ws.send(f'{{"id":{n},"data":{n}}}')

        sender = asyncio.create_task(send())
        acks = await acks_of(ws, many)
        await sender
        same("ids in order, once", [a["id"] for a in acks], list(range(many)))
        same("offsets in order, once", [a["offset"] for a in acks], list(range(many)))
        same("head", (await client.get(url("credit", ""))).json()["head"], many)


@test
async def named_producer():
    async with socket("named", "producer?producer=car-7") as ws:
        holds("no resume_after, or 0, at first", (await welcome(ws)).get("resume_after") in (None, 0))
        for n in 1, 2, 5, 6:
            await ws.send(json.dumps({"id": n, "data": n}))
        same("acks", [(a["id"], a["offset"]) for a in await acks_of(ws, 4)], [(1, 0), (2, 1), (5, 2), (6, 3)])
    async with new_client() as client, socket("named", "producer?producer=car-7") as ws:
        same("resume_after", (await welcome(ws))["resume_after"], 6)
        for n in 5, 6, 7:
            await ws.send(json.dumps({"id": n, "data": n}))
        acks = await acks_of(ws, 3)
        same("ids sent again are acknowledged", [(a["id"], "error" in a) for a in acks], [(5, False), (6, False), (7, False)])
        same("and not stored again", [m["data"] for m in (await poll(client, "named")).json()["messages"]], [1, 2, 5, 6, 7])
    async with new_client() as client, socket("named", "producer?producer=car-8") as ws:
        holds("another name is another sequence", (await welcome(ws)).get("resume_after") in (None, 0))
        await ws.send('{"id":1,"data":"other"}')
        same("its ack", (await acks_of(ws, 1))[0]["offset"], 5)
        await ws.send('{"data":"no id"}')
        frame = await receive(ws)
        problem("a named producer must number", frame["error"], 400, "invalid-request", "id")
        same("producers of the topic", (await client.get(url("named", ""))).json()["head"], 6)


@test
async def message_ids():
    async with socket("ids", "producer") as ws:
        await welcome(ws)
        await ws.send('{"id":1,"data":"a","message_id":"x"}')
        await ws.send('{"id":2,"data":"a","message_id":"x"}')
        await ws.send('{"id":3,"data":"b","message_id":"x"}')
        await ws.send('{"id":4,"data":"b","message_id":"y"}')
        acks = {a["id"]: a for a in await acks_of(ws, 4)}
        same("first", (acks[1]["offset"], acks[1]["duplicate"]), (0, False))
        same("again", (acks[2]["offset"], acks[2]["duplicate"], acks[2]["receipt"]), (0, True, acks[1]["receipt"]))
        problem("another payload", acks[3]["error"], 409, "message-id-conflict")
        same("another id", (acks[4]["offset"], acks[4]["duplicate"]), (1, False))


@test
async def error_frames():
    async with socket("errors", "producer") as ws:
        await welcome(ws)
        await ws.send("{")
        frame = await receive(ws)
        same("frame number of what is no JSON", (frame["frame"], "index" in frame), (1, False))
        problem("what is no JSON", frame["error"], 400, "invalid-request")
        await ws.send('{"id":1,"data":1}')
        await acks_of(ws, 1)
        await ws.send('[{"id":2,"data":1},7,{"id":3,"data":3}]')
        seen = {}
        while len(seen) < 3:
            frame = await receive(ws)
            if "error" in frame:
                seen["error"] = (frame["frame"], frame["index"], frame["error"]["code"])
            else:
                seen.update({a["id"]: a["offset"] for a in frame["acks"]})
        same("an element that is no message", seen, {2: 1, "error": (3, 1, "invalid-request"), 3: 2})
        await ws.send('{"id":4,"data":1,"colour":2}')
        (ack,) = await acks_of(ws, 1)
        same("id of a bad message", ack["id"], 4)
        problem("a bad message with an id", ack["error"], 400, "invalid-request", "colour")
        await ws.send('{"data":1,"colour":2}')
        frame = await receive(ws)
        same("frame number of a bad message without id", frame["frame"], 5)
        problem("a bad message without id", frame["error"], 400, "invalid-request", "colour")
        await ws.send(b"\xc1")
        frame = await receive(ws)
        same("frame number of what is no MessagePack", frame["frame"], 6)
        problem("what is no MessagePack", frame["error"], 400, "invalid-request")
        await ws.send(msgpack.packb({"id": 5, "data": 1, "colour": 2}))
        (ack,) = await acks_of(ws, 1)
        problem("a bad message in MessagePack", ack["error"], 400, "invalid-request", "colour")
        for body, named in [({"data": 1, "data_base64": ""}, "data"), ({}, "data"), ({"data_base64": "%"}, "data_base64"),
                            ({"data": 1, "content_type": "text/plain"}, "data"), ({"data": 1, "ttl_ms": -1}, "ttl_ms"),
                            ({"data": 1, "key": 5}, "key"), ({"data": 1, "attributes": {"a": 1}}, "attributes"),
                            ({"data": 1, "message_id": "x" * 129}, "message_id")]:
            await ws.send(json.dumps({"id": 6, **body}))
            (ack,) = await acks_of(ws, 1)
            problem(f"the message {body}", ack["error"], 400, "invalid-request", named)
        await ws.send(json.dumps({"id": 7, "data": "x" * 1048576}))
        (ack,) = await acks_of(ws, 1)
        problem("a message that is too large", ack["error"], 413, "message-too-large", "1048576")
        await ws.send('{"id":8,"data":1}')
        same("the socket goes on", (await acks_of(ws, 1))[0]["offset"], 3)


@test
async def protocol_errors():
    """What breaks RFC 6455 closes, with the code RFC 6455 gives it."""
    async def closes(what, name, code, send):
        async with socket(name, "producer") as ws:
            await welcome(ws)
            await send(ws)
            try:
                while True:
                    await asyncio.wait_for(ws.recv(), WAIT)
            except websockets.ConnectionClosed as closed:
                same(what, closed.rcvd and closed.rcvd.code, code)

    async def large(ws):
        try:
            await ws.send("x" * 4194305)
        except websockets.ConnectionClosed:
            pass

    async def large_in_fragments(ws):
        try:
            await ws.send(iter_fragments())
        except websockets.ConnectionClosed:
            pass

    def iter_fragments():
        return ["x" * 1048576] * 5

    async def no_text(ws):
        await ws.send(b"\xff\xfe", text=True)

    await closes("a frame that is too large", "close", 1009, large)
    await closes("fragments that are too large together", "close", 1009, large_in_fragments)
    await closes("text that is no UTF-8", "close", 1007, no_text)
    async with socket("close", "producer") as ws:
        await welcome(ws)
        await asyncio.wait_for(await ws.ping(b"hello"), WAIT)
        await ws.send(['{"id":1,', '"data":', '"in fragments"}'])
        same("a message in fragments", (await acks_of(ws, 1))[0]["id"], 1)


@test
async def handshakes():
    async def rejected(what, name, rest, status, code, field=None):
        try:
            async with socket(name, rest):
                pass
        except websockets.InvalidStatus as answer:
            response = answer.response
            same(f"{what}: status", response.status_code, status)
            same(f"{what}: content type", response.headers.get("content-type"), "application/problem+json")
            problem(what, json.loads(response.body), status, code, field)
            return
        raise AssertionError(f"{what}: a socket was opened")

    await rejected("a wrong name", "a..b", "producer", 400, "invalid-name")
    await rejected("unknown acks", "shake", "producer?acks=some", 400, "invalid-request", "acks")
    await rejected("an unknown parameter", "shake", "producer?colour=1", 400, "invalid-request", "colour")
    await rejected("a wrong producer name", "shake", "producer?producer=a..b", 400, "invalid-name")
    await rejected("a tail from nowhere", "shake", "tail?from=nowhere", 400, "invalid-request", "from")
    async with new_client() as client:
        await publish(client, "shake", "1")
        await rejected("a tail from above the head", "shake", "tail?from=2", 400, "invalid-request", "from")
        answer = await client.get(url("shake", "/producer"))
        holds("a socket's path without upgrade", answer.status_code in (400, 426), answer.status_code)
    async with socket("shake", "producer", subprotocols=["other", "weir.v1"]) as ws:
        same("the known one of several subprotocols", ws.subprotocol, "weir.v1")
        await welcome(ws)


# --- tails --------------------------------------------------------------------------------------


@test
async def tails():
    async with new_client() as client:
        times = []
        for n in range(6):
            await publish(client, "tail", json.dumps(n))
            times.append(time.time())
        stored = (await poll(client, "tail")).json()["messages"]
        async with socket("tail", "tail?from=earliest") as ws:
            found = await tail(ws, 6)
            same("from earliest", found, stored)
            await publish(client, "tail", "6")
            same("then what comes", [(m["offset"], m["data"]) for m in await tail(ws, 1)], [(6, 6)])
        async with socket("tail", "tail?from=4") as ws:
            same("from an offset", [m["offset"] for m in await tail(ws, 3)], [4, 5, 6])
        async with socket("tail", "tail?from=7") as ws:
            await publish(client, "tail", "7")
            same("from the head", [m["offset"] for m in await tail(ws, 1)], [7])
        at = stored[3]["published_at"]
        async with socket("tail", f"tail?from={at}") as ws:
            found = await tail(ws, 1)
            same("from a time", found[0]["published_at"], at)
            holds("at or before the message of that time", found[0]["offset"] <= 3, found[0])
        async with socket("tail", "tail?from=2999-01-01T00:00:00Z") as ws:
            await publish(client, "tail", "8")
            same("from a time to come", [m["offset"] for m in await tail(ws, 1)], [8])
        async with socket("tail", "tail?from=latest") as ws, socket("tail", "tail") as default:
            await publish(client, "tail", "9")
            same("from latest", [m["offset"] for m in await tail(ws, 1)], [9])
            same("latest is what is meant when nothing is said", [m["offset"] for m in await tail(default, 1)], [9])
            await ws.send('{"ack":1}')
            frame = await receive(ws)
            same("a tail takes nothing", (frame["frame"], frame["error"]["code"]), (1, "invalid-request"))
            await publish(client, "tail", "10")
            same("and goes on", [m["offset"] for m in await tail(ws, 1)], [10])
        async with socket("unborn", "tail?from=earliest") as ws:
            await publish(client, "unborn", "1")
            same("a tail makes the topic", [m["offset"] for m in await tail(ws, 1)], [0])


@test
async def many_to_many():
    """Four producers and four tails at once: everyone sees the same order."""
    async def produce(k):
        async with socket("many", "producer") as ws:
            await welcome(ws)
            for n in range(500):
                await ws.send(json.dumps({"id": n, "data": [k, n]}))
            return await acks_of(ws, 500)

    async def listen():
        async with socket("many", "tail?from=earliest") as ws:
            return await tail(ws, 2000)

    results = await asyncio.gather(*(produce(k) for k in range(4)), *(listen() for _ in range(4)))
    for seen in results[4:]:
        same("offsets", [m["offset"] for m in seen], list(range(2000)))
        same("what each tail sees", seen, results[4])
        for k in range(4):
            same(f"order of producer {k}", [m["data"][1] for m in seen if m["data"][0] == k], list(range(500)))
    acked = {a["receipt"]: a["offset"] for acks in results[:4] for a in acks}
    same("receipts and offsets as acknowledged", acked, {m["receipt"]: m["offset"] for m in results[4]})


# --- payloads -----------------------------------------------------------------------------------

JSONS = [b'{"a":1}', b'{"b" : 1.0e0,\n "b":2}', b"null", b"12345678901234567890", b"-0.0", b'"\\u00e9 \\ud83d\\ude00 \xc3\xa9"', b"[1,[2,{}],[]]", b"true", b' {"a":"b"} ']
PAYLOADS = (
    [("application/json", p) for p in JSONS]
    + [("application/json; charset=utf-8", b'{"x":"\xc3\xbc"}'), ("application/geo+json", b'{"type":"Point"}')]
    + [("text/plain", b"plain"), ("text/plain; charset=utf-8", "straße \U0001f600\n\t\"".encode()), ("text/csv", b"a,b\r\n1,2\r\n"),
       ("text/html", b"<p>\x00</p>"), ("text/plain", b"\xff\xfe no UTF-8"), ("text/plain", b""), ("text/plain; charset=latin1", b"stra\xdfe")]
    + [("application/octet-stream", bytes(range(256))), ("application/octet-stream", b""), ("image/png", b"\x89PNG\r\n\x1a\n"),
       ("application/octet-stream", b"looks like text"), ("application/xml", b"<a/>"), ("application/x-protobuf", b"\x08\x96\x01"),
       ("application/cbor", b"\xa1\x61a\x01"), ("application/msgpack", msgpack.packb({"a": 1}))]
)


def is_json(content_type):
    kind = content_type.split(";")[0].strip()
    return kind == "application/json" or kind.endswith("+json")


def json_form(content_type, payload):
    """How API.md says a message's payload looks in JSON."""
    if is_json(content_type):
        return {"data": json.loads(payload)}
    if content_type.startswith("text/"):
        try:
            return {"data": payload.decode()}
        except UnicodeDecodeError:
            pass
    return {"data_base64": base64.b64encode(payload).decode()}


def msgpack_form(content_type, payload):
    """And in MessagePack."""
    if is_json(content_type):
        return {"data": json.loads(payload)}
    return {"data": payload}


async def check_payloads(client, name, what):
    """Every way to read them gives the payloads, in the order of the list."""
    count = len(PAYLOADS)
    for offset, (content_type, payload) in enumerate(PAYLOADS):
        answer = await client.get(url(name, f"/messages/{offset}"))
        same(f"{what}: GET of {content_type} {payload[:20]!r}", (answer.status_code, answer.headers.get("content-type"), answer.content), (200, content_type, payload))

    def check(how, messages, form):
        same(f"{what}, {how}: offsets", [m["offset"] for m in messages], list(range(count)))
        for message, (content_type, payload) in zip(messages, PAYLOADS):
            found = {k: message[k] for k in ("data", "data_base64") if k in message}
            same(f"{what}, {how}: type of {payload[:20]!r}", message["content_type"], content_type)
            wanted = form(content_type, payload)
            same(f"{what}, {how}: {content_type} {payload[:20]!r}", (found, [type(v) for v in found.values()]), (wanted, [type(v) for v in wanted.values()]))

    check("poll", (await poll(client, name)).json()["messages"], json_form)
    lines = (await poll(client, name, accept="application/x-ndjson")).text.splitlines()
    check("poll as NDJSON", [json.loads(line) for line in lines], json_form)
    packed = await poll(client, name, accept="application/msgpack")
    same(f"{what}: content type of MessagePack", packed.headers["content-type"], "application/msgpack")
    answer = msgpack.unpackb(packed.content)
    same(f"{what}: members in MessagePack", [answer[k] for k in ("topic", "first", "head", "next")], [topic(name), 0, count, count])
    check("poll as MessagePack", answer["messages"], msgpack_form)
    async with socket(name, "tail?from=earliest") as ws:
        check("tail", await tail(ws, count), json_form)
    events = []
    async with client.stream("GET", url(name, "/events"), params={"from": "earliest"}) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data:"):
                events.append(json.loads(line[5:]))
                if len(events) == count:
                    break
    check("events", events, json_form)


@test
async def payloads_over_http():
    async with new_client() as client:
        for content_type, payload in PAYLOADS:
            await publish(client, "fidelity-http", payload, content_type)
        await check_payloads(client, "fidelity-http", "sent over HTTP")
        await publish(client, "untyped", b"{}", None)
        same("a body without a type", (await poll(client, "untyped")).json()["messages"][0]["content_type"], "application/octet-stream")


@test
async def payloads_in_json():
    """As a batch and over a socket; JSON payloads in `data`, as their very bytes."""
    def message(content_type, payload, n=None):
        own = "" if n is None else f'"id":{n},'
        form = json_form(content_type, payload)
        if is_json(content_type):
            return b"{" + own.encode() + b'"content_type":' + json.dumps(content_type).encode() + b',"data":' + payload.strip() + b"}"
        return ("{" + own + json.dumps({"content_type": content_type, **form})[1:]).encode()

    # White space around a JSON value is not part of it.
    wanted = [(t, p.strip() if is_json(t) else p) for t, p in PAYLOADS]
    async with new_client() as client:
        body = b'{"messages":[' + b",".join(message(t, p) for t, p in PAYLOADS) + b"]}"
        answer = await client.post(url("fidelity-json"), content=body, headers={"content-type": BATCH + "+json"})
        same("batch", (answer.status_code, answer.json()["accepted"], answer.json()["rejected"]), (202, len(PAYLOADS), 0))
        async with socket("fidelity-json-ws", "producer") as ws:
            await welcome(ws)
            for n, (content_type, payload) in enumerate(PAYLOADS):
                await ws.send(message(content_type, payload, n).decode())
            same("acks", [a.get("offset") for a in await acks_of(ws, len(PAYLOADS))], list(range(len(PAYLOADS))))
        for name in "fidelity-json", "fidelity-json-ws":
            before = PAYLOADS[:]
            PAYLOADS[:] = wanted
            try:
                await check_payloads(client, name, f"sent in JSON ({name})")
            finally:
                PAYLOADS[:] = before


@test
async def payloads_in_msgpack():
    """As a batch and over a socket; all payloads as bin."""
    async with new_client() as client:
        messages = [{"content_type": t, "data": p} for t, p in PAYLOADS]
        answer = await client.post(url("fidelity-pack"), content=msgpack.packb({"messages": messages}), headers={"content-type": BATCH + "+msgpack"})
        same("batch: status", answer.status_code, 202)
        same("batch", (answer.json()["accepted"], answer.json()["rejected"]), (len(PAYLOADS), 0))
        async with socket("fidelity-pack-ws", "producer") as ws:
            await welcome(ws)
            for n, message in enumerate(messages):
                await ws.send(msgpack.packb({"id": n, **message}))
            same("acks", [a.get("offset") for a in await acks_of(ws, len(PAYLOADS))], list(range(len(PAYLOADS))))
        for name in "fidelity-pack", "fidelity-pack-ws":
            await check_payloads(client, name, f"sent in MessagePack ({name})")


@test
async def msgpack_values():
    """Values of MessagePack that become JSON, and those that JSON has no words for."""
    good = [None, True, 0, -1, 2**63, -(2**63), 2**64 - 1, 1.5, "", "ü\u0000\"\\", [], {}, [1, [2, [3]]], {"a": {"b": [None]}}, {"": 0}]
    bad = [({1: 2}, "a key that is no string"), ([b"bin"], "bin within a value"), (math.nan, "not a number"), (math.inf, "infinity"), (msgpack.ExtType(5, b"x"), "an extension")]
    async with new_client() as client:
        body = msgpack.packb({"messages": [{"data": v} for v in good]})
        answer = await client.post(url("values"), content=body, headers={"content-type": BATCH + "+msgpack"})
        same("values: status", answer.status_code, 202)
        same("values: accepted", answer.json()["accepted"], len(good))
        same("back in JSON", [m["data"] for m in (await poll(client, "values")).json()["messages"]], good)
        back = msgpack.unpackb((await poll(client, "values", accept="application/msgpack")).content)
        same("back in MessagePack", [m["data"] for m in back["messages"]], good)
        for value, what in bad:
            body = msgpack.packb({"messages": [{"data": value}, {"data": 1}]})
            answer = await client.post(url("values-bad"), content=body, headers={"content-type": BATCH + "+msgpack"})
            same(f"{what}: the other message is taken", (answer.status_code, answer.json().get("accepted"), answer.json().get("rejected")), (202, 1, 1))
            problem(what, answer.json()["results"][0]["error"], 400, "invalid-request", "data")
        for what, body in [("nothing", b""), ("cut short", msgpack.packb({"messages": [{"data": 1}]})[:-1]), ("more behind it", msgpack.packb({"messages": [{"data": 1}]}) + b"\x00"),
                           ("a member too many", msgpack.packb({"messages": [{"data": 1}], "colour": 1})), ("an array", msgpack.packb([1])),
                           ("more promised than there is", b"\x81\xa8messages\xdd\xff\xff\xff\xff"), ("too deep", b"\x81\xa8messages\x91\x81\xa4data" + b"\x91" * 500000 + b"\x01")]:
            answer = await client.post(url("values-bad"), content=body, headers={"content-type": BATCH + "+msgpack"})
            if what == "too deep" and answer.status_code == 400 and "results" in answer.json():
                same("too deep: rejected", answer.json()["rejected"], 1)
            else:
                refused(f"a batch of MessagePack: {what}", answer, 400, "invalid-request")


@test
async def raw_payloads():
    """Every byte, over the raw socket."""
    async with new_client() as client, socket("fidelity-raw", "producer", subprotocols=["weir.raw.v1"]) as ws:
        await welcome(ws)
        for _, payload in PAYLOADS:
            await ws.send(payload)
        await range_up_to(ws, len(PAYLOADS))
        for offset, (_, payload) in enumerate(PAYLOADS):
            answer = await client.get(url("fidelity-raw", f"/messages/{offset}"))
            same(f"bytes of {offset}", (answer.content, answer.headers.get("content-type")), (payload, "application/octet-stream"))


# --- times to live ------------------------------------------------------------------------------


@test
async def ttl():
    """A message that is over is not delivered, its receipt says so, readers see a gap."""
    async with new_client() as client:
        await publish(client, "ttl", '"first"')
        short = await publish(client, "ttl", '"short"', weir_ttl_ms="500")
        long = await publish(client, "ttl", '"long"', weir_ttl_ms="600000")
        same("before it is over", [m["data"] for m in (await poll(client, "ttl")).json()["messages"]], ["first", "short", "long"])

        async def over():
            return "short" not in [m["data"] for m in (await poll(client, "ttl")).json()["messages"]]

        await eventually("the message is over", over)
        found = (await poll(client, "ttl")).json()
        same("what is left", [(m["offset"], m["data"]) for m in found["messages"]], [(0, "first"), (2, "long")])
        same("the gap", found.get("gaps"), [{"from": 1, "to": 1}])
        found = msgpack.unpackb((await poll(client, "ttl", accept="application/msgpack")).content)
        same("the gap in MessagePack", found.get("gaps"), [{"from": 1, "to": 1}])
        lines = (await poll(client, "ttl", accept="application/x-ndjson")).text.splitlines()
        same("NDJSON", [json.loads(line)["data"] for line in lines], ["first", "long"])
        found = (await poll(client, "ttl", **{"from": 1})).json()
        same("from the gap on", (found.get("gaps"), [m["offset"] for m in found["messages"]]), ([{"from": 1, "to": 1}], [2]))
        gaps = []
        async with socket("ttl", "tail?from=earliest") as ws:
            same("tail", [m["data"] for m in await tail(ws, 2, gaps)], ["first", "long"])
        same("the tail's gap", gaps, [(1, 1)])
        events = []
        async with client.stream("GET", url("ttl", "/events"), params={"from": "earliest"}) as stream:
            event = {}
            async for line in stream.aiter_lines():
                if line:
                    name, _, value = line.partition(":")
                    event[name] = value.strip()
                elif event:
                    if "data" in event:
                        events.append((event.get("event"), json.loads(event["data"])))
                    event = {}
                    if len(events) == 3:
                        break
        same("events", [(kind, data if kind == "gap" else data["data"]) for kind, data in events],
             [(None, "first"), ("gap", {"from": 1, "to": 1}), (None, "long")])
        answer = await client.get(f"{BASE}/v1/receipts/{short['receipt']}")
        same("the receipt", (answer.status_code, answer.json().get("stage")), (200, "expired"))
        holds("its history ends with it", answer.json()["history"][-1]["stage"] == "expired", answer.json())
        answer = await client.get(f"{BASE}/v1/receipts/{long['receipt']}")
        holds("the receipt of what is not over", answer.json().get("stage") != "expired", answer.json())
        holds("a GET of it", (await client.get(url("ttl", "/messages/1"))).status_code in (404, 410))
        same("the neighbour", (await client.get(url("ttl", "/messages/2"))).content, b'"long"')
        # The head is what is over: readers get past it.
        async with socket("ttl", "producer") as ws:
            await welcome(ws)
            await ws.send('{"id":1,"data":"brief","ttl_ms":1}')
            same("offset", (await acks_of(ws, 1))[0]["offset"], 3)

        async def passed():
            found = (await poll(client, "ttl", **{"from": 3})).json()
            return not found["messages"] and found["next"] == 4 and found.get("gaps") == [{"from": 3, "to": 3}]

        await eventually("a poll gets past what is over at the end", passed)


# --- batches, polls, bodies ---------------------------------------------------------------------


@test
async def batches():
    async with new_client() as client:
        messages = [{"data": 1}, {"data": 2, "colour": "red"}, {"data": 3, "message_id": "x"}, {"data": 3, "message_id": "x"}, {"data": 4, "message_id": "x"}, {"data": 5}]
        for name, body, kind in [("batch-json", json.dumps({"messages": messages}), "+json"), ("batch-pack", msgpack.packb({"messages": messages}), "+msgpack")]:
            answer = await client.post(url(name), content=body, headers={"content-type": BATCH + kind})
            same(f"{name}: status", answer.status_code, 202)
            found = answer.json()
            same(f"{name}: counts", (found["accepted"], found["rejected"]), (4, 2))
            same(f"{name}: results", [r.get("offset", r.get("error", {}).get("code")) for r in found["results"]], [0, "invalid-request", 1, 1, "message-id-conflict", 2])
            same(f"{name}: duplicates", [r.get("duplicate") for r in found["results"]], [False, None, False, True, None, False])
            problem(f"{name}: the bad message", found["results"][1]["error"], 400, "invalid-request", "colour")
            same(f"{name}: stored", [m["data"] for m in (await poll(client, name)).json()["messages"]], [1, 3, 5])
        answer = await client.post(url("batch-json"), content='{"messages":[{"colour":1}]}', headers={"content-type": BATCH + "+json"})
        same("a batch of bad ones has the first one's status", (answer.status_code, answer.json()["rejected"]), (400, 1))
        answer = await client.post(url("batch-large"), json={"messages": [{"data": n} for n in range(10001)]}, headers={"content-type": BATCH + "+json"})
        refused("a batch of 10001", answer, 400, "invalid-request", "10000")
        answer = await client.post(url("batch-large"), json={"messages": [{"data": n} for n in range(10000)]}, headers={"content-type": BATCH + "+json"})
        same("a batch of 10000", (answer.status_code, answer.json()["accepted"]), (202, 10000))
        same("their offsets", [r["offset"] for r in answer.json()["results"]], list(range(10000)))
        body = b"".join(b'{"n":%d}\n' % n for n in range(1000))
        answer = await client.post(url("lines"), content=body, headers={"content-type": "application/x-ndjson"})
        same("NDJSON", (answer.status_code, answer.json()["accepted"], [r["offset"] for r in answer.json()["results"]]), (202, 1000, list(range(1000))))
        answer = await client.post(url("lines"), content=b'1\r\n\n"last, without an end"', headers={"content-type": "application/x-ndjson"})
        same("NDJSON with CR LF and without an end", [r.get("offset") for r in answer.json()["results"] if "error" not in r], [1000, 1001])
        same("a line of NDJSON is stored without its end", (await client.get(url("lines", "/messages/1000"))).content, b"1")


@test
async def paging():
    async with new_client() as client:
        await client.post(url("pages"), json={"messages": [{"data": "x" * 100, "key": str(n)} for n in range(1050)]}, headers={"content-type": BATCH + "+json"})
        for accept in None, "application/msgpack", "application/x-ndjson":
            seen, place, pages = [], "earliest", 0
            while True:
                answer = await poll(client, "pages", accept=accept, **{"from": place})
                if accept == "application/x-ndjson":
                    messages = [json.loads(line) for line in answer.text.splitlines()]
                    place = int(answer.headers["weir-next"])
                    same("Weir-First and Weir-Head", (answer.headers["weir-first"], answer.headers["weir-head"]), ("0", "1050"))
                else:
                    page = msgpack.unpackb(answer.content) if accept else answer.json()
                    messages, place = page["messages"], page["next"]
                if not messages:
                    break
                pages += 1
                seen += messages
                holds("at most 100 when nothing is said", len(messages) <= 100, len(messages))
                same("next", place, messages[-1]["offset"] + 1)
            same(f"all, once, in order ({accept})", [m["key"] for m in seen], [str(n) for n in range(1050)])
            same("pages", pages, 11)
        found = (await poll(client, "pages", max=10000)).json()
        same("max", len(found["messages"]), 1050)
        found = (await poll(client, "pages", max=10000, max_bytes=1000)).json()
        holds("max_bytes", 1 <= len(found["messages"]) <= 10, len(found["messages"]))
        same("and next", found["next"], len(found["messages"]))
        same("topic and epoch", (found["topic"], found["epoch"]), (topic("pages"), (await client.get(url("pages", ""))).json()["epoch"]))


@test
async def long_polls():
    async with new_client() as client:
        await publish(client, "wait", "0")
        for accept in None, "application/msgpack", "application/x-ndjson":
            head = (await client.get(url("wait", ""))).json()["head"]
            begun = time.monotonic()
            waiting = asyncio.create_task(poll(client, "wait", accept=accept, **{"from": head}, wait_ms=15000))
            await asyncio.wait([waiting], timeout=0.3)
            holds(f"a poll waits ({accept})", not waiting.done())
            async with new_client() as other:
                await publish(other, "wait", "1")
            answer = await waiting
            holds("until the first new message", time.monotonic() - begun < 10, time.monotonic() - begun)
            if accept is None:
                same("which it has", [m["offset"] for m in answer.json()["messages"]], [head])
            holds("the message is there", b"offset" in answer.content)
        begun = time.monotonic()
        answer = await poll(client, "wait", **{"from": "latest"}, wait_ms=300)
        holds("a poll that waits for nothing", 0.25 <= time.monotonic() - begun < 5, time.monotonic() - begun)
        same("is empty", answer.json()["messages"], [])
        begun = time.monotonic()
        answer = await poll(client, "wait", wait_ms=10000)
        holds("a poll with messages does not wait", time.monotonic() - begun < 5)


@test
async def encodings():
    async with new_client() as client:
        for kind in "application/json", BATCH + "+json", BATCH + "+msgpack", "application/x-ndjson", "text/plain":
            for encoding in "gzip", "deflate", "br":
                answer = await client.post(url("encoded"), content=gzip.compress(b"{}"), headers={"content-type": kind, "content-encoding": encoding})
                same(f"{encoding} of {kind}: status", answer.status_code, 415)
                same(f"{encoding} of {kind}: content type", answer.headers["content-type"], "application/problem+json")
        answer = await client.post(url("encoded"), content=b"1", headers={"content-type": "application/json", "content-encoding": "identity"})
        same("identity is no encoding", answer.status_code, 202)


@test
async def receipts():
    async with new_client() as client, socket("receipts", "producer") as ws:
        await welcome(ws)
        await ws.send('[{"id":1,"data":1},{"id":2,"data":2}]')
        for ack in await acks_of(ws, 2):
            answer = await client.get(f"{BASE}/v1/receipts/{ack['receipt']}", params={"until": "logged", "wait_ms": 1000})
            same("receipt of a socket's message", (answer.status_code, answer.json().get("topic"), answer.json().get("offset")), (200, topic("receipts"), ack["offset"]))
        published = await publish(client, "receipts", "3")
        answer = await client.get(f"{BASE}/v1/receipts/{published['receipt']}")
        same("receipt", (answer.json()["receipt"], answer.json()["offset"], answer.json()["loss_bound_ms"]), (published["receipt"], 2, 0))
        await client.patch(url("receipts", ""), json={"ack_level": "os", "sync_interval_ms": 100})
        published = await publish(client, "receipts", "4")
        same("a receipt at level os", (published["ack_level"], published["stage"]), ("os", "logged"))
        holds("what it may lose", published["loss_bound_ms"] >= 100, published)
        now = datetime.now(timezone.utc).isoformat()
        same("a batch's receipts are of the topic", (await client.get(f"{BASE}/v1/receipts/{published['receipt']}")).json()["topic"], topic("receipts"))
        holds("times are of today", (await poll(client, "receipts")).json()["messages"][0]["published_at"][:4] == now[:4])


async def main():
    chosen = sys.argv[2:] or list(TESTS)
    failed = []
    for name in chosen:
        try:
            await asyncio.wait_for(TESTS[name](), 120)
        except Exception as error:  # noqa: BLE001: whatever it is, the other tests go on
            failed.append(name)
            places = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == __file__ and f.name != "main"]
            lines = ", ".join(str(f.lineno) for f in places)
            print(f"FAILED: {name} (lines {lines}): {type(error).__name__}: {str(error)[:1500]}")
    print(f"Python: {len(chosen) - len(failed)} tests passed with {counts['checks']} checks, {len(failed)} failed")
    return 1 if failed else 0


sys.exit(asyncio.run(main()))
