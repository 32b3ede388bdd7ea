#!/usr/bin/env python3
"""Answers the Digest challenges of Muster for the users in a CSV file: an xSP
in Python 3.9+ with the standard library only. See README.md."""
import argparse, csv, hashlib, hmac, http.server, json, secrets, ssl, sys, time

SKEW = 300  # seconds between our clock and the node's
HASHES = {name: h for name, h in (("MD5", "md5"), ("SHA-256", "sha256"), ("SHA-512-256", "sha512_256"))
          if h in hashlib.algorithms_available}
HEADERS = {"ORIGIN": "Authorization", "PROXY": "Proxy-Authorization"}


def signed(key, header, body):
    """Checks Muster-Signature: t=<unix>,v1=<hex HMAC-SHA256 of "t.body">."""
    parts = dict(p.strip().partition("=")[::2] for p in header.split(","))
    t, v1 = parts.get("t", ""), parts.get("v1", "")
    if not (t.isdecimal() and len(t) < 12 and abs(time.time() - int(t)) <= SKEW):
        return False
    want = hmac.new(key, t.encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(want.encode(), v1.lower().encode())


def understood(c):
    """The algorithm, whether it is a -sess one, and the qop; None if this cannot be answered."""
    p = c["params"]
    algorithm = p.get("algorithm", "").upper() or "MD5"
    name, sess = algorithm.removesuffix("-SESS"), algorithm.endswith("-SESS")
    offered = [v.strip().lower() for v in p.get("qop", "").split(",") if v.strip()]
    qop = next((v for v in ("auth", "auth-int") if v in offered), None if offered else "")
    echoed = p.get("nonce", "") + c["realm"] + p.get("opaque", "")
    if c["scheme"].lower() != "digest" or c["space"] not in HEADERS or name not in HASHES:
        return None
    if qop is None or sess and not qop or not p.get("nonce") or any(x < " " and x != "\t" or x == "\x7f" for x in echoed):
        return None
    return name, sess, qop


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def credentials(q, c, how, user, password, key):
    """The header value that answers one challenge (RFC 7616, RFC 8760)."""
    name, sess, qop = how
    p, realm, nonce, nc = c["params"], c["realm"], c["params"]["nonce"], "%08x" % max(1, c["nonceCount"])
    h = lambda *parts: hashlib.new(HASHES[name], ":".join(parts).encode()).hexdigest()
    cnonce, ha1 = secrets.token_urlsafe(16), h(user, realm, password)
    if sess:  # all answers to a nonce share a client nonce, so it is derived and not stored
        cnonce = hmac.new(key, (realm + "\0" + nonce).encode(), hashlib.sha256).hexdigest()[:32]
        ha1 = h(ha1, nonce, cnonce)
    a2 = [q["method"], q["requestUri"]]
    if qop == "auth-int":
        a2.append(q.get("bodyHashes", {}).get(name) or h(""))
    response = h(ha1, nonce, nc, cnonce, qop, h(*a2)) if qop else h(ha1, nonce, h(*a2))
    value = "Digest username=%s, realm=%s, nonce=%s, uri=%s, response=%s" % tuple(
        map(quoted, (user, realm, nonce, q["requestUri"], response)))
    if p.get("algorithm"):
        value += ", algorithm=" + p["algorithm"]
    if qop:
        value += ", cnonce=%s, qop=%s, nc=%s" % (quoted(cnonce), qop, nc)
    if "opaque" in p:
        value += ", opaque=" + quoted(p["opaque"])
    return value


def answer(q, users, key):
    """The reply to a question: one answer for every realm, or a refusal."""
    user = users.get(q["profileId"]) or users.get(q["aor"].partition(":")[2].rpartition("@")[0])
    if not user:
        return {"ref": q["ref"], "refusal": {"reason": "unknown subscriber"}}
    realms, answered, mutations = set(), [], []
    for c in q["challenges"]:  # of a realm, the first that is understood counts
        how, name = understood(c), HEADERS.get(c["space"])
        if how and (name, c["realm"]) not in realms:
            op = "ADD" if any(m["name"] == name for m in mutations) else "SET"
            mutations.append({"op": op, "name": name, "value": credentials(q, c, how, *user, key)})
            answered.append(c["index"])
            realms.add((name, c["realm"]))
    if not answered:
        return {"ref": q["ref"], "refusal": {"reason": "no challenge is understood"}}
    return {"ref": q["ref"], "answered": answered, "mutations": mutations, "preemptive": True}


class Questions(http.server.BaseHTTPRequestHandler):
    protocol_version, timeout = "HTTP/1.1", 60  # connections stay open
    disable_nagle_algorithm, wbufsize = True, -1  # a reply is one packet, at once

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 6 or int(length) > 65536:
            self.close_connection = True
            return self.reply(413)
        body = self.rfile.read(int(length))
        if not signed(self.server.key, self.headers.get("Muster-Signature", ""), body):
            return self.reply(401)
        try:
            reply = answer(json.loads(body), self.server.users, self.server.key)
        except (ValueError, LookupError, TypeError, AttributeError):
            return self.reply(400)
        time.sleep(self.server.delay)
        self.reply(200, json.dumps(reply).encode())

    def reply(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code="-", size="-"):  # without the request line, which may hold a token
        self.log_message("status %s", code)


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--listen", default="127.0.0.1:9000", help="address and port; port 0 takes a free one")
    a.add_argument("--secret-file", required=True, help="the key that the node signs with")
    a.add_argument("--users", required=True, help="CSV file with the columns id, username, password")
    a.add_argument("--tls-cert", help="PEM file with the certificate chain")
    a.add_argument("--tls-key", help="PEM file with its key")
    a.add_argument("--delay-ms", type=int, default=0, help="answer late, for demonstrations")
    o = a.parse_args()
    with open(o.secret_file, "rb") as f:
        key = f.read().rstrip(b"\r\n")  # the line break is not part of it
    if not key:
        sys.exit("the secret file is empty")
    with open(o.users, newline="", encoding="utf-8") as f:
        rows = [(r.get("id") or r["username"], (r["username"], r["password"])) for r in csv.DictReader(f)]
    host, _, port = o.listen.rpartition(":")
    http.server.ThreadingHTTPServer.request_queue_size = 1024
    server = http.server.ThreadingHTTPServer((host, int(port)), Questions)
    server.key, server.users, server.delay = key, dict(rows), o.delay_ms / 1000
    if o.tls_cert:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(o.tls_cert, o.tls_key)
        # The handshake is left to the thread of the connection.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print("listening on %s://%s:%d/answer" % ("https" if o.tls_cert else "http", *server.server_address[:2]), flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
