#include "http/head.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace llm_proxy {
namespace {

std::string request(const std::string& fields, const std::string& line = "POST /v1/chat HTTP/1.1") {
  return line + "\r\n" + fields + "\r\n";
}

TEST(RequestHead, is_parsed_into_views) {
  const std::string text = request("Host: a.example:8000\r\ncontent-LENGTH:  12 \r\nX-Empty:\r\n",
                                   "POST /v1/chat%20x?key=1&alt=sse HTTP/1.1") +
                           "body";
  RequestHead head;
  const auto length = parse_request_head(text, {}, head);
  ASSERT_TRUE(length);
  EXPECT_EQ(*length, text.size() - 4);
  EXPECT_EQ(head.method, "POST");
  EXPECT_EQ(head.path, "/v1/chat%20x");
  EXPECT_EQ(head.query, "key=1&alt=sse");
  EXPECT_EQ(head.host, "a.example:8000");
  EXPECT_EQ(head.framing, Framing::length);
  EXPECT_EQ(head.content_length, 12u);
  EXPECT_TRUE(head.keep_alive);
  EXPECT_FALSE(head.expect_continue);
  EXPECT_EQ(head.fields.value("Content-Length"), "12");
  ASSERT_NE(head.fields.find("x-empty"), nullptr);
  EXPECT_EQ(head.fields.value("x-empty"), "");
  EXPECT_EQ(head.fields.find("absent"), nullptr);
}

TEST(RequestHead, needs_more_at_every_cut_and_never_errs_early) {
  const std::string text =
      "\r\n" + request("Host: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\nA: b\r\n");
  for (std::size_t cut = 0; cut < text.size(); ++cut) {
    RequestHead head;
    const auto length = parse_request_head(std::string_view(text).substr(0, cut), {}, head);
    ASSERT_TRUE(length) << "cut at " << cut << ": " << length.error().message;
    EXPECT_EQ(*length, 0u) << "cut at " << cut;
  }
  RequestHead head;
  EXPECT_EQ(*parse_request_head(text, {}, head), text.size());
  EXPECT_EQ(head.framing, Framing::chunked);
  EXPECT_TRUE(head.expect_continue);
}

struct BadHead {
  const char* what;
  std::string text;
  int status = 400;
};

TEST(RequestHead, refuses_what_two_parsers_could_read_differently) {
  const std::string host = "Host: h\r\n";
  const std::vector<BadHead> cases{
      {"length and coding", request(host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n")},
      {"coding and length", request(host + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n")},
      {"two lengths", request(host + "Content-Length: 3\r\nContent-Length: 4\r\n")},
      {"two equal lengths", request(host + "Content-Length: 3\r\nContent-Length: 3\r\n")},
      {"list of lengths", request(host + "Content-Length: 3, 3\r\n")},
      {"negative length", request(host + "Content-Length: -1\r\n")},
      {"signed length", request(host + "Content-Length: +1\r\n")},
      {"hex length", request(host + "Content-Length: 0x10\r\n")},
      {"empty length", request(host + "Content-Length:\r\n")},
      {"huge length", request(host + "Content-Length: 99999999999999999999\r\n")},
      {"xchunked", request(host + "Transfer-Encoding: xchunked\r\n")},
      {"gzip, chunked", request(host + "Transfer-Encoding: gzip, chunked\r\n")},
      {"chunked, gzip", request(host + "Transfer-Encoding: chunked, gzip\r\n")},
      {"chunked twice",
       request(host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")},
      {"identity", request(host + "Transfer-Encoding: identity\r\n")},
      {"empty coding", request(host + "Transfer-Encoding:\r\n")},
      {"coding with VT", request(host + "Transfer-Encoding:\vchunked\r\n")},
      {"coding in 1.0", request(host + "Transfer-Encoding: chunked\r\n", "POST / HTTP/1.0")},
      {"no host", request("A: b\r\n")},
      {"two hosts", request(host + host)},
      {"host list", request("Host: a, b\r\n")},
      {"host with path", request("Host: a/b\r\n")},
      {"host with user", request("Host: u@a\r\n")},
      {"host with space", request("Host: a b\r\n")},
      {"folded", request(host + "A: b\r\n c\r\n")},
      {"folded first", request(" Host: h\r\n")},
      {"space before colon", request(host + "A : b\r\n")},
      {"no colon", request(host + "Ab\r\n")},
      {"no name", request(host + ": b\r\n")},
      {"bad name", request(host + "A(b): c\r\n")},
      {"bare LF", "GET / HTTP/1.1\nHost: h\n\n"},
      {"bare LF in fields", request("Host: h\nA: b\r\n")},
      {"bare LF at end", "GET / HTTP/1.1\r\nHost: h\r\n\n"},
      {"bare CR in value", request(host + "A: b\rc\r\n")},
      {"NUL in value", request(host + "A: b" + std::string(1, '\0') + "\r\n")},
      {"NUL in name", request(host + "A" + std::string(1, '\0') + ": b\r\n")},
      {"DEL in value", request(host + "A: \x7f\r\n")},
      {"two spaces", request(host, "GET  / HTTP/1.1")},
      {"space in target", request(host, "GET /a b HTTP/1.1")},
      {"trailing space", request(host, "GET / HTTP/1.1 ")},
      {"tab", request(host, "GET\t/ HTTP/1.1")},
      {"no version", "GET /\r\n\r\n"},
      {"no target", request(host, "GET HTTP/1.1")},
      {"lower-case version", request(host, "GET / http/1.1")},
      {"relative target", request(host, "GET v1/chat HTTP/1.1")},
      {"other scheme", request(host, "GET ftp://h/ HTTP/1.1")},
      {"authority for GET", request(host, "GET h:80 HTTP/1.1")},
      {"asterisk for GET", request(host, "GET * HTTP/1.1")},
      {"path for CONNECT", request(host, "CONNECT /x HTTP/1.1")},
      {"fragment", request(host, "GET /a#b HTTP/1.1")},
      {"non-ASCII target", request(host, "GET /\xc3\xa9 HTTP/1.1")},
      {"TLS", std::string("\x16\x03\x01\x02\x00\x01", 6)},
      {"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"HTTP/1.2", request(host, "GET / HTTP/1.2"), 505},
      {"HTTP/3", request(host, "GET / HTTP/3.0"), 505},
      {"other expectation", request(host + "Expect: gold\r\n"), 417},
      {"only empty lines", "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"},
  };
  for (const BadHead& bad : cases) {
    RequestHead head;
    const auto length = parse_request_head(bad.text, {}, head);
    ASSERT_FALSE(length) << bad.what;
    EXPECT_EQ(length.error().kind, ErrorKind::malformed_request) << bad.what;
    EXPECT_EQ(length.error().http_status(), bad.status) << bad.what;
  }
}

TEST(RequestHead, accepts_every_lawful_target) {
  struct Case {
    const char* line;
    const char* path;
    const char* query;
  };
  for (const Case& lawful :
       {Case{"GET / HTTP/1.1", "/", ""}, Case{"GET /a?b=c?d HTTP/1.1", "/a", "b=c?d"},
        Case{"GET http://h:80/a?b HTTP/1.1", "/a", "b"}, Case{"GET HTTPS://h HTTP/1.1", "/", ""},
        Case{"GET http://[::1]?q HTTP/1.1", "/", "q"}, Case{"OPTIONS * HTTP/1.1", "*", ""},
        Case{"CONNECT h:443 HTTP/1.1", "", ""}, Case{"GET /a? HTTP/1.1", "/a", ""}}) {
    const std::string text = request("Host: h\r\n", lawful.line);
    RequestHead head;
    const auto length = parse_request_head(text, {}, head);
    ASSERT_TRUE(length) << lawful.line;
    EXPECT_EQ(*length, text.size());
    EXPECT_EQ(head.path, lawful.path) << lawful.line;
    EXPECT_EQ(head.query, lawful.query) << lawful.line;
  }
}

TEST(RequestHead, bounds_bytes_and_fields) {
  const HeadLimits limits{200, 4};
  RequestHead head;
  const std::string fitting = request("Host: h\r\nA: " + std::string(160, 'x') + "\r\n");
  ASSERT_EQ(fitting.size(), 200u);
  EXPECT_EQ(*parse_request_head(fitting, limits, head), 200u);

  const std::string endless = request("Host: h\r\nA: " + std::string(161, 'x') + "\r\n");
  auto result = parse_request_head(endless, limits, head);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().http_status(), 431);
  EXPECT_FALSE(parse_request_head(endless.substr(0, 200), limits, head))
      << "at the limit without an end";
  EXPECT_TRUE(parse_request_head(endless.substr(0, 199), limits, head));

  result = parse_request_head(request("Host: h\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n"), limits, head);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::head_too_large);
}

TEST(RequestHead, keeps_the_connection_as_version_and_field_say) {
  struct Case {
    const char* version;
    const char* connection;
    bool keep;
  };
  for (const Case& each : {Case{"1.1", "", true}, Case{"1.1", "Connection: close\r\n", false},
                           Case{"1.1", "Connection: x, CLOSE\r\n", false}, Case{"1.0", "", false},
                           Case{"1.0", "Connection: Keep-Alive\r\n", true},
                           Case{"1.0", "Connection: keep-alive, close\r\n", false}}) {
    RequestHead head;
    const std::string text = request(std::string("Host: h\r\n") + each.connection,
                                     std::string("GET / HTTP/") + each.version);
    ASSERT_TRUE(parse_request_head(text, {}, head));
    EXPECT_EQ(head.keep_alive, each.keep) << each.version << each.connection;
  }
}

TEST(RequestHead, marks_what_belongs_to_the_connection) {
  RequestHead head;
  const std::string text = request(
      "Host: h\r\nConnection: keep-alive, X-Secret\r\nKeep-Alive: 5\r\nx-secret: 1\r\nTE: "
      "trailers\r\n"
      "Proxy-Authorization: p\r\nUpgrade: h2c\r\nAuthorization: a\r\nX-Secret: 2\r\n");
  ASSERT_TRUE(parse_request_head(text, {}, head));
  std::string passed;
  for (const Field& field : head.fields) {
    if (!field.hop_by_hop) passed += std::string(field.name) + " ";
  }
  EXPECT_EQ(passed, "Host Authorization ");
  EXPECT_EQ(head.upgrade, "") << "Upgrade counts only when Connection names it";
}

TEST(RequestHead, sees_an_upgrade) {
  RequestHead head;
  const std::string text =
      request("Host: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", "GET / HTTP/1.1");
  ASSERT_TRUE(parse_request_head(text, {}, head));
  EXPECT_EQ(head.upgrade, "websocket");
}

TEST(RequestHead, forgets_the_request_before) {
  RequestHead head;
  const std::string first =
      request("Host: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n");
  ASSERT_TRUE(parse_request_head(first, {}, head));
  const std::string second = request("Host: b\r\n", "GET / HTTP/1.1");
  ASSERT_TRUE(parse_request_head(second, {}, head));
  EXPECT_EQ(head.framing, Framing::none);
  EXPECT_EQ(head.content_length, 0u);
  EXPECT_FALSE(head.expect_continue);
  EXPECT_TRUE(head.keep_alive);
  EXPECT_EQ(head.fields.size(), 1u);
}

// A view left over would be of bytes that are gone, and stand in the log as another's request.
TEST(RequestHead, forgets_the_request_before_also_when_it_fails) {
  for (const std::string_view broken :
       {"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n", "not http", "GET /b HTTP/9.9\r\n\r\n",
        "GET /b HTTP/1.1\r\n\r\n", "GET /b HTTP/1.1\r\nHost"}) {
    RequestHead head;
    const std::string first = request("Host: a\r\n", "GET /first?query=1 HTTP/1.1");
    ASSERT_TRUE(parse_request_head(first, {}, head));
    const auto parsed = parse_request_head(broken, {}, head);
    ASSERT_FALSE(parsed && *parsed > 0) << broken;
    EXPECT_NE(head.path, "/first") << broken;
    EXPECT_EQ(head.query, "") << broken;
    EXPECT_EQ(head.host, "") << broken;
    EXPECT_EQ(head.fields.size(), 0u) << broken;
  }
  RequestHead head;
  EXPECT_FALSE(parse_request_head(std::string(40'000, 'A') + " / HTTP/1.1\r\n", {}, head));
  EXPECT_EQ(head.method, "") << "a method of any length would stand in the log";
}

TEST(ReplyHead, knows_how_its_body_ends) {
  struct Case {
    const char* text;
    bool to_head;
    Framing framing;
    bool keep;
  };
  for (const Case& each : {
           Case{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, Framing::length, true},
           Case{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, Framing::none, true},
           Case{"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", false, Framing::chunked,
                true},
           Case{"HTTP/1.1 200 OK\r\n\r\n", false, Framing::until_close, false},
           Case{"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", false, Framing::none, true},
           Case{"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, Framing::none,
                true},
           Case{"HTTP/1.1 100 Continue\r\n\r\n", false, Framing::none, true},
           Case{"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false, Framing::length, false},
           Case{"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", false, Framing::length, true},
           Case{"HTTP/1.1 200 \r\nContent-Length: 5\r\nConnection: close\r\n\r\n", false,
                Framing::length, false},
       }) {
    ReplyHead head;
    const auto length = parse_reply_head(each.text, {}, each.to_head, head);
    ASSERT_TRUE(length) << each.text;
    EXPECT_EQ(*length, std::string_view(each.text).size()) << each.text;
    EXPECT_EQ(head.framing, each.framing) << each.text;
    EXPECT_EQ(head.keep_alive, each.keep) << each.text;
  }
}

TEST(ReplyHead, refuses_what_is_no_clear_reply) {
  for (const std::string text :
       {"HTTP/1.1 2OO OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 X\r\n\r\n", "HTTP/1.1 600 X\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/2 200\r\n\r\n", "ICY 200 OK\r\n\r\n", "HTTP/1.1 200 OK\n\n", "{\"error\":1}",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "HTTP/1.1 200 OK\r\nA : b\r\n\r\n"}) {
    ReplyHead head;
    const auto length = parse_reply_head(text, {}, false, head);
    ASSERT_FALSE(length) << text;
    EXPECT_EQ(length.error().kind, ErrorKind::upstream_garbled) << text;
    EXPECT_EQ(length.error().http_status(), 502) << text;
  }
  ReplyHead head;
  const auto endless =
      parse_reply_head("HTTP/1.1 200 OK\r\nA: " + std::string(40'000, 'x'), {}, false, head);
  ASSERT_FALSE(endless);
  EXPECT_EQ(endless.error().http_status(), 502);
}

TEST(Tokens, are_found_in_lists_whatever_their_case) {
  EXPECT_TRUE(has_token("gzip, BR ,zstd", "br"));
  EXPECT_TRUE(has_token("br", "br"));
  EXPECT_FALSE(has_token("brotli, xbr", "br"));
  EXPECT_FALSE(has_token("", "br"));
}

}  // namespace
}  // namespace llm_proxy
