#!/usr/bin/env bash
# The HTTP edge as curl sees it: topics, publishing, receipts, polling, single messages, one-way,
# Server-Sent Events, and what is refused. Needs curl and jq.
#
#   curl.sh http://ADDR:PORT
#
# The broker should look for expired messages often (WEIR__STORAGE__RETENTION_INTERVAL_MS=100), so
# that offsets that are gone can be had soon.
set -uo pipefail

base=${1:?the address of a broker, http://ADDR:PORT}
authority=${base#http://}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run=$$                                   # topics of this run
passed=0 failed=0

# --- checks -------------------------------------------------------------------------------------

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED: $1"; shift; printf '    %s\n' "$@"; }

# is WHAT GOT WANTED
is() { if [ "$2" = "$3" ]; then ok; else bad "$what: $1" "wanted: $3" "got:    $2" "request: $asked"; fi; }
# like WHAT GOT REGEX
like() { if [[ $2 =~ $3 ]]; then ok; else bad "$what: $1" "wanted: $3" "got:    $2" "request: $asked"; fi; }

# ask WHAT CURL-ARGUMENTS…: a request; $status, $work/body and $work/head hold the answer.
ask() {
    what=$1; shift
    asked="curl $*"
    : >"$work/body"; : >"$work/head"
    status=$(curl -sS --max-time 30 -o "$work/body" -D "$work/head" -w '%{http_code}' "$@" 2>"$work/error") \
        || bad "$what: curl" "$(cat "$work/error")" "request: $asked"
}
header() { tr -d '\r' <"$work/head" | awk -v name="$1" -F': ' 'tolower($1) == tolower(name) { sub(/^[^:]*: */, ""); value = $0 } END { print value }'; }
json() { jq -c "$1" "$work/body" 2>&1; }

# answers STATUS: the status of the last request
answers() { is status "$status" "$1"; }
# says JQ WANTED: a value in the body
says() { is "$1" "$(json "$1")" "$2"; }
# refuses STATUS CODE [REGEX OF DETAIL]: a problem object, complete and of one mind with the status
refuses() {
    is status "$status" "$1"
    is "the code" "$(json .code)" "\"$2\""
    is "content type of the problem" "$(header content-type)" application/problem+json
    is "the problem's members" "$(json '[(.type,.title,.detail | type), .status, (.temporary | type)]')" \
        "[\"string\",\"string\",\"string\",$1,\"boolean\"]"
    if [ $# -gt 2 ]; then like "the detail" "$(json .detail)" "$3"; fi
}
# wait_for WHAT SECONDS COMMAND…: until the command succeeds
wait_for() {
    local name=$1 end=$((SECONDS + $2)); shift 2
    until "$@"; do
        if [ $SECONDS -ge "$end" ]; then bad "$name" "did not come to pass: $*"; return 1; fi
        sleep 0.05
    done
    ok
}

# events COUNT CURL-ARGUMENTS…: so many events, a line each: type, id, data
events() {
    local count=$1 stream pipe=$work/stream.$BASHPID; shift
    mkfifo "$pipe"
    curl -sSN --max-time 20 -D "$work/head" "$@" >"$pipe" 2>"$work/error" & stream=$!
    local line type=message id='' data=''
    while IFS= read -r line; do
        line=${line%$'\r'}
        case $line in
            event:*) type=${line#event:}; type=${type# } ;;
            id:*) id=${line#id:}; id=${id# } ;;
            data:*) data=${line#data:}; data=${data# } ;;
            '') [ -z "$data" ] || { printf '%s\t%s\t%s\n' "$type" "$id" "$data"; count=$((count - 1)); }
                type=message data=''
                [ "$count" -gt 0 ] || break ;;
        esac
    done <"$pipe"
    kill $stream 2>/dev/null
    rm "$pipe"
}
ids() { cut -f 2 | tr '\n' ' '; }

messages() { echo "$base/v1/topics/$1/messages"; }
json_type='content-type: application/json'
no_type='content-type:'
batch_type='content-type: application/vnd.weir.messages+json'

# --- topics -------------------------------------------------------------------------------------

t=curl-$run
ask "a topic that does not exist" "$base/v1/topics/$t"
refuses 404 topic-not-found
ask "PUT makes a topic" -X PUT "$base/v1/topics/$t" -H "$json_type" -d '{"ack_level":"os","sync_interval_ms":250}'
answers 201
says .ack_level '"os"'; says .sync_interval_ms 250; says .retention_ms 604800000
ask "PUT again replaces" -X PUT "$base/v1/topics/$t" -H "$json_type" -d '{"sync_interval_ms":300}'
answers 200
says .ack_level '"sync"'; says .sync_interval_ms 300
ask "PUT with If-None-Match" -X PUT "$base/v1/topics/$t" -H "$json_type" -H 'If-None-Match: *' -d '{}'
refuses 409 already-exists
ask "PATCH merges" -X PATCH "$base/v1/topics/$t" -H "$json_type" -d '{"retention_ms":3600000}'
answers 200
says .retention_ms 3600000; says .sync_interval_ms 300
ask "PATCH of a topic that does not exist" -X PATCH "$base/v1/topics/$t-none" -H "$json_type" -d '{}'
refuses 404 topic-not-found
ask "PATCH with an unknown setting" -X PATCH "$base/v1/topics/$t" -H "$json_type" -d '{"colour":1}'
refuses 400 invalid-request colour
ask "PUT with an unknown setting" -X PUT "$base/v1/topics/$t" -H "$json_type" -d '{"colour":1}'
refuses 400 invalid-request colour
ask "PUT with a setting of the wrong type" -X PUT "$base/v1/topics/$t" -H "$json_type" -d '{"retention_ms":"x"}'
refuses 400 invalid-request retention_ms
ask "PUT with what is no JSON" -X PUT "$base/v1/topics/$t" -H "$json_type" -d '{'
refuses 400 invalid-request
ask "GET shows settings and state" "$base/v1/topics/$t"
answers 200
says '[.ack_level,.retention_ms,.sync_interval_ms]' '["sync",3600000,300]'
says '[.state,.first,.head,.messages,.loss_bound_ms,.gaps,.producers,.restarts]' '["running",0,0,0,0,[],0,0]'
says '[(.epoch,.bytes,.subscriptions | type)]' '["number","number","number"]'
ask "HEAD of a topic" -I "$base/v1/topics/$t"
answers 200
is "content type" "$(header content-type)" application/json
like "content length" "$(header content-length)" '^[1-9][0-9]*$'
ask "HEAD of a topic that does not exist" -I "$base/v1/topics/$t-none"
answers 404

for name in a..b .a a. ... .. 'a%20b' 'a%2Fb' 'a%2563' '%C3%A9' '%00' "$(printf 'x%.0s' {1..201})"; do
    ask "the name $name" --path-as-is -X PUT "$base/v1/topics/$name" -H "$json_type" -d '{}'
    refuses 400 invalid-name
done
ask "a name of the broker's own" -X PUT "$base/v1/topics/_weir.mine" -H "$json_type" -d '{}'
refuses 400 invalid-name
long=$(printf "$run%.0s" {1..60}); long=${long:0:200}
ask "a name of 200 characters" -X PUT "$base/v1/topics/$long" -H "$json_type" -d '{}'
answers 201
ask "its end" -X DELETE "$base/v1/topics/$long"
answers 204
ask "a percent-encoded name" -X PUT "$base/v1/topics/%63url-$run%2Ep%5F" -H "$json_type" -d '{}'
answers 201
says .name "\"curl-$run.p_\""
ask "the same name, plain" "$base/v1/topics/curl-$run.p_"
answers 200

for n in 1 2 3 4 5; do curl -sS -o "$work/body" -X PUT "$base/v1/topics/page-$run.$n" -d '{}'; done
ask "the first page of topics" "$base/v1/topics?prefix=page-$run.&limit=2"
answers 200
says '[.topics[].name]' "[\"page-$run.1\",\"page-$run.2\"]"
says .next "\"page-$run.2\""
ask "the second page" "$base/v1/topics?prefix=page-$run.&limit=2&after=page-$run.2"
says '[.topics[].name]' "[\"page-$run.3\",\"page-$run.4\"]"
ask "the last page" "$base/v1/topics?prefix=page-$run.&limit=2&after=page-$run.4"
says '[.topics[].name]' "[\"page-$run.5\"]"
says .next null
ask "a page of none" "$base/v1/topics?prefix=page-$run.&limit=0"
refuses 400 invalid-request limit
ask "an unknown parameter" "$base/v1/topics?colour=1"
refuses 400 invalid-request colour
ask "DELETE" -X DELETE "$base/v1/topics/page-$run.1"
answers 204
is "body" "$(wc -c <"$work/body")" 0
ask "DELETE of what is gone" -X DELETE "$base/v1/topics/page-$run.1"
refuses 404 topic-not-found

# --- publishing ---------------------------------------------------------------------------------

ask "a JSON message" "$(messages "$t")" -H "$json_type" -d '{"n": 1.0,  "n":2}'
answers 202
receipt=$(json .receipt | tr -d '"')
like receipt "$receipt" '^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'
is Location "$(header location)" "/v1/receipts/$receipt"
says '[.topic,.stage,.ack_level,.loss_bound_ms,.offset,.duplicate]' "[\"$t\",\"logged\",\"sync\",0,0,false]"
ask "a raw message without content type" "$(messages "$t")" -H "$no_type" --data-binary $'a\nb'
answers 202; says .offset 1
ask "text" "$(messages "$t")" -H 'content-type: text/plain' --data-binary 'straße'
says .offset 2
ask "an empty body" "$(messages "$t")" -H "$no_type" -d ''
answers 202; says .offset 3
ask "with headers" "$(messages "$t")" -H "$json_type" -H 'Weir-Key: car-7' -H 'Weir-Attr-Colour: red' \
    -H 'Weir-Attr-size: 3' -H 'Weir-Ttl-Ms: 600000' -H 'Idempotency-Key: id-1' -d '[7]'
answers 202; says .offset 4; says .duplicate false
first=$(json .receipt)
ask "the same message id and payload" "$(messages "$t")" -H "$json_type" -H 'Weir-Key: car-7' -H 'Weir-Attr-Colour: red' \
    -H 'Weir-Attr-size: 3' -H 'Weir-Ttl-Ms: 600000' -H 'Idempotency-Key: id-1' -d '[7]'
answers 202; says .duplicate true; says .offset 4; says .receipt "$first"
ask "the same message id, another payload" "$(messages "$t")" -H "$json_type" -H 'Idempotency-Key: id-1' -d '[8]'
refuses 409 message-id-conflict
ask "a message id of 129 bytes" "$(messages "$t")" -H "Idempotency-Key: $(printf 'x%.0s' {1..129})" -d x
refuses 400 invalid-request
ask "JSON that is none" "$(messages "$t")" -H "$json_type" -d '{"n":'
refuses 400 invalid-request
ask "a ttl that is no number" "$(messages "$t")" -H 'Weir-Ttl-Ms: soon' -d x
refuses 400 invalid-request '[Tt]tl'
ask "an unknown parameter" "$(messages "$t")?colour=1" -d x
refuses 400 invalid-request colour

ask "NDJSON" "$(messages "$t")" -H 'content-type: application/x-ndjson' --data-binary $'{"a":1}\n[2]\n"drei"\n'
answers 202
says '[.accepted,.rejected]' '[3,0]'; says '[.results[].offset]' '[5,6,7]'; says '[.results[].duplicate]' '[false,false,false]'
ask "NDJSON with a bad line" "$(messages "$t")" -H 'content-type: application/x-ndjson' --data-binary $'1\n{bad\n3'
answers 202
says '[.accepted,.rejected]' '[2,1]'
says '[.results[] | .offset // .error.code]' '[8,"invalid-request",9]'
says '.results[1].error.status' 400
ask "NDJSON, nothing but bad lines" "$(messages "$t")" -H 'content-type: application/x-ndjson' --data-binary $'x\ny\n'
answers 400
says '[.accepted,.rejected,.results[0].error.code]' '[0,2,"invalid-request"]'
ask "a batch" "$(messages "$t")" -H "$batch_type" -d '{"messages":[{"data":{"b":1},"key":"k","message_id":"b-1","attributes":{"x":"y"}},
    {"data_base64":"AAH/","content_type":"image/png"},{"data":"text","content_type":"text/plain"}]}'
answers 202
says '[.accepted,.rejected]' '[3,0]'; says '[.results[].offset]' '[10,11,12]'
ask "a batch with a bad message, a duplicate and a conflict" "$(messages "$t")" -H "$batch_type" -d '{"messages":[
    {"data":1},{"data":2,"colour":"red"},{"data":{"b":1},"key":"k","message_id":"b-1","attributes":{"x":"y"}},{"data":9,"message_id":"b-1"},{"data":3}]}'
answers 202
says '[.accepted,.rejected]' '[3,2]'
says '[.results[] | .offset // .error.code]' '[13,"invalid-request",10,"message-id-conflict",14]'
says '[.results[] | .duplicate]' '[false,null,true,null,false]'
like "the bad message's field" "$(json '.results[1].error.detail')" colour
ask "a batch of none" "$(messages "$t")" -H "$batch_type" -d '{"messages":[]}'
refuses 400 invalid-request messages
ask "a batch that is none" "$(messages "$t")" -H "$batch_type" -d '[]'
refuses 400 invalid-request
ask "a batch with a member too many" "$(messages "$t")" -H "$batch_type" -d '{"messages":[{"data":1}],"colour":1}'
refuses 400 invalid-request colour

ask "Prefer: wait until logged" "$(messages "$t")?until=logged" -H 'Prefer: wait=5' -H "$json_type" -d '15'
answers 202; says .stage '"logged"'; says .offset 15
ask "Prefer: wait until queued" "$(messages "$t")?until=queued" -H 'Prefer: wait=5' -H "$json_type" -d '16'
answers 202; says .stage '"queued"'; says .offset 16
queued=$(header location)
ask "until what there is not" "$(messages "$t")?until=christmas" -H 'Prefer: wait=1' -d x
refuses 400 invalid-request until

# --- receipts -----------------------------------------------------------------------------------

ask "a receipt" "$base/v1/receipts/$receipt"
answers 200
says '[.receipt,.topic,.offset,.loss_bound_ms,.subscriptions]' "[\"$receipt\",\"$t\",0,0,[]]"
says '[.history[].stage] | index("logged") != null' true
like "the stage of what every reader may have" "$(json .stage)" '^"(logged|queued)"$'
ask "a receipt, waiting until logged" "$base/v1/receipts/$receipt?until=logged&wait_ms=1000"
answers 200
ask "a receipt until queued" "$base$queued?until=queued&wait_ms=5000"
answers 200; says .stage '"queued"'
ask "a receipt, wait_ms out of range" "$base/v1/receipts/$receipt?wait_ms=30001"
refuses 400 invalid-request wait_ms
for place in 0 10 16 30 35; do
    digit=${receipt:place:1}
    forged=${receipt:0:place}$(printf '%x' $(( (16#$digit + 1) % 16 )))${receipt:place+1}
    ask "a forged receipt (digit $place)" "$base/v1/receipts/$forged"
    refuses 404 receipt-not-found
done
for other in 00000000-0000-0000-0000-000000000000 550e8400-e29b-41d4-a716-446655440000; do
    ask "the receipt $other of someone else's" "$base/v1/receipts/$other"
    refuses 404 receipt-not-found
done
for malformed in x 0 "${receipt:0:35}" "${receipt}0"; do
    ask "the malformed receipt $malformed" "$base/v1/receipts/$malformed"
    refuses 400 invalid-receipt
done
curl -sS -o "$work/body" "$(messages "gone-$run")" -H "$json_type" -d 1
gone=$(json .receipt | tr -d '"')
curl -sS -o "$work/body" -X DELETE "$base/v1/topics/gone-$run"
ask "a receipt of a topic that was deleted" "$base/v1/receipts/$gone"
refuses 404 receipt-not-found

# --- polling ------------------------------------------------------------------------------------

ask "a poll" "$(messages "$t")"
answers 200
is "content type" "$(header content-type)" application/json
says '[.topic,.first,.head,.next,(.epoch | type)]' "[\"$t\",0,17,17,\"number\"]"
says '[.messages[].offset]' '[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]'
says '.messages[0] | [.content_type,.receipt,.data]' "[\"application/json\",\"$receipt\",{\"n\":2}]"
is "JSON is not written anew" "$(grep -c -F '{"n": 1.0,  "n":2}' "$work/body")" 1
says '.messages[1] | [.content_type,.data_base64,has("data")]' '["application/octet-stream","YQpi",false]'
says '.messages[2] | [.content_type,.data]' '["text/plain","straße"]'
says '.messages[3] | [.content_type,.data_base64]' '["application/octet-stream",""]'
says '.messages[4] | [.key,.message_id,.ttl_ms,.data]' '["car-7","id-1",600000,[7]]'
says '.messages[4].attributes | with_entries(.key |= ascii_downcase)' '{"colour":"red","size":"3"}'
says '.messages[10] | [.key,.message_id,.attributes,.data]' '["k","b-1",{"x":"y"},{"b":1}]'
says '.messages[11] | [.content_type,.data_base64]' '["image/png","AAH/"]'
says '.messages[12] | [.content_type,.data]' '["text/plain","text"]'
says '[.messages[].published_at] | (. == sort) and all(test("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{3,}Z$"))' true
at=$(json '.messages[5].published_at' | tr -d '"')
ask "a page" "$(messages "$t")?from=3&max=4"
says '[.messages[].offset]' '[3,4,5,6]'; says '[.next,.head,.first]' '[7,17,0]'
ask "at least one message, even if larger than max_bytes" "$(messages "$t")?from=2&max_bytes=1"
says '[.messages[].offset]' '[2]'; says .next 3
ask "from latest" "$(messages "$t")?from=latest"
answers 200; says '[.messages,.next]' '[[],17]'
ask "from the head" "$(messages "$t")?from=17"
answers 200; says '[.messages,.next]' '[[],17]'
ask "from a time" -G "$(messages "$t")" --data-urlencode "from=$at" -d max=1
answers 200
is "the first message at or after the time" "$(json '.messages[0].published_at')" "\"$at\""
ask "from a time to come" "$(messages "$t")?from=2999-01-01T00:00:00Z"
answers 200; says '[.messages,.next]' '[[],17]'
ask "from above the head" "$(messages "$t")?from=18"
refuses 400 invalid-request from
for query in max=0 max=10001 wait_ms=30001 max_bytes=0 from=yesterday from=-1 max=x colour=1; do
    ask "the poll ?$query" "$(messages "$t")?$query"
    refuses 400 invalid-request "${query%%=*}"
done
ask "a poll of a topic that does not exist" "$(messages "$t-none")"
refuses 404 topic-not-found
ask "which a poll does not make" "$base/v1/topics/$t-none"
answers 404
ask "a poll as NDJSON" "$(messages "$t")?from=5&max=3" -H 'Accept: application/x-ndjson'
answers 200
is "content type" "$(header content-type)" application/x-ndjson
is "Weir-First, Weir-Head, Weir-Next" "$(header weir-first) $(header weir-head) $(header weir-next)" "0 17 8"
is "lines" "$(wc -l <"$work/body")" 3
is "offsets and data" "$(jq -c '[.offset,.data]' "$work/body" | tr '\n' ' ')" '[5,{"a":1}] [6,[2]] [7,"drei"] '
ask "an empty poll as NDJSON" "$(messages "$t")?from=latest" -H 'Accept: application/x-ndjson'
answers 200; is "bytes" "$(wc -c <"$work/body")" 0; is Weir-Next "$(header weir-next)" 17
ask "a poll as MessagePack" "$(messages "$t")?from=5&max=3" -H 'Accept: application/msgpack'
answers 200
is "content type" "$(header content-type)" application/msgpack
like "a map comes first" "$(head -c 1 "$work/body" | od -An -tx1 | tr -d ' ')" '^(8[0-9a-f]|de)$'
ask "a poll of a type there is not" "$(messages "$t")" -H 'Accept: image/png'
is status "$status" 406
is "content type" "$(header content-type)" application/problem+json
ask "Accept with weights" "$(messages "$t")?max=1" -H 'Accept: image/png, application/x-ndjson;q=0.5, */*;q=0.1'
answers 200; is "content type" "$(header content-type)" application/x-ndjson

# --- one message --------------------------------------------------------------------------------

head -c 300000 /dev/urandom >"$work/sent"
ask "a binary file" "$(messages "$t.file")" -H 'content-type: image/x-noise' -H 'Weir-Key: noise' -H 'Weir-Attr-Colour: grey' --data-binary "@$work/sent"
answers 202; says .offset 0
file_receipt=$(json .receipt | tr -d '"')
ask "the same file, byte for byte" "$(messages "$t.file")/0"
answers 200
is "the bytes" "$(cmp "$work/sent" "$work/body" 2>&1)" ""
is "content type" "$(header content-type)" image/x-noise
is "content length" "$(header content-length)" 300000
is Weir-Key "$(header weir-key)" noise
is Weir-Attr-Colour "$(header weir-attr-colour)" grey
is Weir-Receipt "$(header weir-receipt)" "$file_receipt"
is Weir-Offset "$(header weir-offset)" 0
like Weir-Published-At "$(header weir-published-at)" '^20[0-9-]*T[0-9:.]*Z$'
ask "HEAD of a message" -I "$(messages "$t.file")/0"
answers 200; is "content length" "$(header content-length)" 300000; is "content type" "$(header content-type)" image/x-noise
ask "the file, sent in chunks" -X POST -T - -H 'content-type: image/x-noise' "$(messages "$t.file")" <"$work/sent"
answers 202; says .offset 1
ask "the same file, byte for byte, after chunks" "$(messages "$t.file")/1"
is "the bytes" "$(cmp "$work/sent" "$work/body" 2>&1)" ""
ask "the file, after Expect: 100-continue" -H 'Expect: 100-continue' -H 'content-type: image/x-noise' --data-binary "@$work/sent" "$(messages "$t.file")"
answers 202; says .offset 2
like "100 Continue came first" "$(head -n 1 "$work/head")" '^HTTP/1.1 100 '
ask "JSON as it was sent" "$(messages "$t")/0"
is "the bytes" "$(cat "$work/body")" '{"n": 1.0,  "n":2}'; is "content type" "$(header content-type)" application/json
ask "an empty message" "$(messages "$t")/3"
answers 200; is "content length" "$(header content-length)" 0
ask "a message that is not there yet" "$(messages "$t")/17"
answers 404
ask "an offset that is none" "$(messages "$t")/x"
answers 400

# --- what is gone -------------------------------------------------------------------------------

old=old-$run
ask "a topic that keeps little" -X PUT "$base/v1/topics/$old" -H "$json_type" -d '{"retention_bytes":65536}'
answers 201
head -c 10000 /dev/zero >"$work/large"
for _ in {1..10}; do curl -sS -o "$work/body" "$(messages "$old")" -H "$no_type" --data-binary "@$work/large"; done
trimmed() { curl -sS "$base/v1/topics/$old" | jq -e '.first > 0 and .bytes <= 65536' >"$work/trimmed"; }
if wait_for "retention trims the topic" 20 trimmed; then
    first=$(curl -sS "$base/v1/topics/$old" | jq .first)
    ask "a poll from what is gone" "$(messages "$old")?from=0"
    refuses 410 offset-gone
    says .first "$first"
    ask "a message that is gone" "$(messages "$old")/0"
    refuses 410 offset-gone
    says .first "$first"
    ask "the earliest there is" "$(messages "$old")?from=earliest"
    answers 200; says .first "$first"
    what="events from what is gone" asked="GET /v1/topics/$old/events?from=0"
    events 2 "$base/v1/topics/$old/events?from=0" >"$work/events"
    is "types" "$(cut -f 1 "$work/events" | tr '\n' ' ')" "gap message "
    is "the gap" "$(head -n 1 "$work/events" | cut -f 3 | jq -c .)" "{\"from\":0,\"to\":$((first - 1))}"
    is "the message behind it" "$(tail -n 1 "$work/events" | cut -f 3 | jq -c .offset)" "$first"
fi

# --- one-way ------------------------------------------------------------------------------------

ask "one-way" "$base/v1/topics/$t.oneway/oneway" -H "$json_type" -d '"one way"'
answers 204
is "body" "$(wc -c <"$work/body")" 0
wait_for "the topic comes into being" 10 curl -sf -o "$work/body" "$base/v1/topics/$t.oneway"
ask "it is stored" "$(messages "$t.oneway")?wait_ms=10000"
says '[.messages[].data]' '["one way"]'

# --- Server-Sent Events -------------------------------------------------------------------------

for n in 1 2 3 4; do curl -sS -o "$work/body" "$(messages "$t.sse")" -H "$json_type" -d "{\"n\":$n}"; done
epoch=$(curl -sS "$base/v1/topics/$t.sse" | jq .epoch)
what="events from the earliest" asked="GET /v1/topics/$t.sse/events?from=earliest"
events 4 "$base/v1/topics/$t.sse/events?from=earliest" >"$work/events"
is "ids" "$(ids <"$work/events")" "$epoch-0 $epoch-1 $epoch-2 $epoch-3 "
is "messages" "$(cut -f 3 "$work/events" | jq -c '[.offset,.data.n]' | tr '\n' ' ')" "[0,1] [1,2] [2,3] [3,4] "
like "content type" "$(header content-type)" '^text/event-stream'
what="events from an offset" asked="GET /v1/topics/$t.sse/events?from=2"
is "ids" "$(events 2 "$base/v1/topics/$t.sse/events?from=2" | ids)" "$epoch-2 $epoch-3 "
what="events after Last-Event-ID" asked="GET /v1/topics/$t.sse/events with Last-Event-ID: $epoch-1"
is "ids" "$(events 2 -H "Last-Event-ID: $epoch-1" "$base/v1/topics/$t.sse/events" | ids)" "$epoch-2 $epoch-3 "
what="Last-Event-ID goes before from" asked="GET /v1/topics/$t.sse/events?from=earliest with Last-Event-ID: $epoch-2"
is "ids" "$(events 1 -H "Last-Event-ID: $epoch-2" "$base/v1/topics/$t.sse/events?from=earliest" | ids)" "$epoch-3 "
# Without a place events begin with what comes: publish until one has come.
what="events of what is to come" asked="GET /v1/topics/$t.live/events"
curl -sS -o "$work/body" "$(messages "$t.live")" -H "$json_type" -d '"before"'
events 1 "$base/v1/topics/$t.live/events?from=latest" >"$work/live" & live=$!
while kill -0 $live 2>"$work/error"; do
    curl -sS -o "$work/body" "$(messages "$t.live")" -H "$json_type" -d '"after"'
    sleep 0.05
done
wait $live
is "data" "$(cut -f 3 "$work/live" | jq -c .data)" '"after"'
ask "a Last-Event-ID that is none" -H 'Last-Event-ID: x' "$base/v1/topics/$t.sse/events"
refuses 400 invalid-request
ask "events of a topic of a wrong name" "$base/v1/topics/a..b/events"
refuses 400 invalid-name
ask "events from above the head" "$base/v1/topics/$t.sse/events?from=99"
refuses 400 invalid-request from

# --- what is refused ----------------------------------------------------------------------------

ask "a host that is not the broker's" -H 'Host: evil.example' "$base/v1/topics"
refuses 403 forbidden
ask "a host that is not the broker's, with a port" -H "Host: evil.example:${authority##*:}" "$base/livez"
refuses 403 forbidden
ask "a host that is an address" -H 'Host: 127.0.0.1' "$base/v1/topics?limit=1"
answers 200
ask "a host that is an IPv6 address" -H "Host: [::1]:${authority##*:}" "$base/v1/topics?limit=1"
answers 200
ask "a foreign origin" -H 'Origin: http://evil.example' "$base/v1/topics"
refuses 403 origin-not-allowed
ask "a foreign origin that publishes" -H 'Origin: http://evil.example' "$(messages "$t.evil")" -H 'content-type: text/plain' -d x
refuses 403 origin-not-allowed
ask "the origin of a file" -H 'Origin: null' "$base/v1/topics"
refuses 403 origin-not-allowed
ask "nothing was published" "$base/v1/topics/$t.evil"
answers 404
ask "the broker's own origin" -H "Origin: $base" "$base/v1/topics?limit=1"
answers 200
ask "a preflight from a foreign origin" -X OPTIONS -H 'Origin: http://evil.example' -H 'Access-Control-Request-Method: POST' "$(messages "$t")"
answers 403
is Access-Control-Allow-Origin "$(header access-control-allow-origin)" ""
ask "a WebSocket from a foreign origin" -H 'Origin: http://evil.example' -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
    -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' "$base/v1/topics/$t/tail"
refuses 403 origin-not-allowed

ask OPTIONS -X OPTIONS "$(messages "$t")"
answers 204
is Allow "$(header allow | tr -d ' ' | tr , '\n' | grep -vx OPTIONS | sort | tr '\n' ' ')" "GET HEAD POST "
ask "OPTIONS of a topic" -X OPTIONS "$base/v1/topics/$t"
answers 204
is Allow "$(header allow | tr -d ' ' | tr , '\n' | grep -vx OPTIONS | sort | tr '\n' ' ')" "DELETE GET HEAD PATCH PUT "
ask "a method that is not allowed" -X DELETE "$(messages "$t")"
is status "$status" 405
is "content type" "$(header content-type)" application/problem+json
is Allow "$(header allow | tr -d ' ' | tr , '\n' | grep -xE 'GET|POST' | sort | tr '\n' ' ')" "GET POST "
ask "a path there is not" "$base/v1/nothing"
refuses 404 not-found
gzip -c "$work/sent" >"$work/sent.gz"
ask "a body in an encoding" -H 'Content-Encoding: gzip' -H "$no_type" --data-binary "@$work/sent.gz" "$(messages "$t")"
is status "$status" 415
is "content type" "$(header content-type)" application/problem+json
ask "a batch in an encoding" -H 'Content-Encoding: gzip' -H "$batch_type" --data-binary "@$work/sent.gz" "$(messages "$t")"
is status "$status" 415
head -c 1048577 /dev/zero >"$work/large"
ask "a message that is too large" -H "$no_type" --data-binary "@$work/large" "$(messages "$t")"
refuses 413 message-too-large 1048576
ask "one byte less" -H "$no_type" --data-binary "@-" "$(messages "$t.large")" < <(head -c 1048576 /dev/zero)
answers 202
head -c 16777217 /dev/zero >"$work/large"
ask "a body that is too large" -H 'Expect:' -H "$no_type" --data-binary "@$work/large" "$(messages "$t")"
refuses 413 body-too-large 16777216
ask "a body that is too large, announced" -H 'Expect: 100-continue' -H "$no_type" --data-binary "@$work/large" "$(messages "$t")"
refuses 413 body-too-large 16777216
ask "a body that is too large, in chunks" -H "$no_type" -X POST -T - "$(messages "$t")" <"$work/large"
refuses 413 body-too-large 16777216
ask "the topic has what it had" "$base/v1/topics/$t"
says .head 17

# --- operations ---------------------------------------------------------------------------------

ask livez "$base/livez"
answers 200
ask "HEAD of livez" -I "$base/livez"
answers 200
ask readyz "$base/readyz"
answers 200; says '[.ready,.degraded]' '[true,[]]'
ask metrics "$base/metrics"
answers 200
like "content type" "$(header content-type)" '^text/plain'
like "a metric with its type" "$(cat "$work/body")" '# TYPE [a-z_]+ (counter|gauge|histogram)'
is "lines that are no metrics" "$(grep -cvE '^(#.*|[a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})? [-+0-9.eE]+|[a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})? (NaN|[+-]Inf)|)$' "$work/body")" 0
ask status "$base/v1/status"
answers 200
is "content type" "$(header content-type)" application/json
is "an object" "$(json type)" '"object"'
ask "HTTP/1.0" -0 "$base/livez"
answers 200
ask "two requests over one connection" "$base/livez" --next -sS -o "$work/second" -w ' %{http_code} %{num_connects}' "$base/livez"
is "statuses and new connections" "$status" "200 200 0"

echo "curl: $passed passed, $failed failed"
[ "$failed" = 0 ]
