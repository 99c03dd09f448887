#include <gtest/gtest.h>

#include <string>

#include "http/head.h"
#include "http/head_writer.h"
#include "http/status_text.h"
#include "http/url.h"

namespace llm_proxy {
namespace {

TEST(HeadWriter, writes_heads_that_parse) {
  std::string text;
  HeadWriter(text).status_line(429).date(784111777).field("Retry-After", 7).field("X", "y").end();
  EXPECT_EQ(text,
            "HTTP/1.1 429 Too Many Requests\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: "
            "7\r\nX: y\r\n\r\n");
  std::string request;
  HeadWriter(request)
      .request_line("POST", "/v1?a=b")
      .field("Host", "h")
      .field("Content-Length", 0)
      .end();
  RequestHead head;
  EXPECT_EQ(*parse_request_head(request, {}, head), request.size());
}

TEST(HeadWriter, lets_no_value_start_a_line) {
  std::string text;
  HeadWriter(text)
      .request_line("GET", "/a HTTP/1.1\r\nEvil: 1\r\n")
      .field("Host", "h\r\nEvil: 2")
      .field("Bad\r\nEvil", "3")
      .field("Bad:Evil", "4")
      .field("", "5")
      .end();
  RequestHead head;
  ASSERT_FALSE(text.find("\nEvil") != std::string::npos) << text;
  EXPECT_EQ(text, "GET /aHTTP/1.1Evil:1 HTTP/1.1\r\nHost: h  Evil: 2\r\n\r\n");
}

TEST(StatusText, knows_the_statuses_we_send) {
  EXPECT_EQ(status_text(200), "OK");
  EXPECT_EQ(status_text(529), "Overloaded");
  EXPECT_EQ(status_text(299), "Unknown");
}

TEST(Url, is_taken_apart) {
  struct Case {
    const char* text;
    bool https;
    const char* host;
    int port;
    const char* path;
    const char* authority;
  };
  for (const Case& each : {
           Case{"https://api.openai.com/v1", true, "api.openai.com", 443, "/v1", "api.openai.com"},
           Case{"http://localhost:11434/", false, "localhost", 11434, "", "localhost:11434"},
           Case{"HTTP://EXAMPLE.com:80//", false, "example.com", 80, "", "example.com"},
           Case{"http://[::1]:8080/a/b/", false, "::1", 8080, "/a/b", "[::1]:8080"},
           Case{"https://[2001:db8::1]", true, "2001:db8::1", 443, "", "[2001:db8::1]"},
           Case{"https://h/a%2Fb?api-version=1", true, "h", 443, "/a%2Fb", "h"},
       }) {
    const auto url = parse_url(each.text);
    ASSERT_TRUE(url) << each.text << ": " << url.error().message;
    EXPECT_EQ(url->https, each.https) << each.text;
    EXPECT_EQ(url->host, each.host) << each.text;
    EXPECT_EQ(url->port, each.port) << each.text;
    EXPECT_EQ(url->path, each.path) << each.text;
    EXPECT_EQ(url->authority(), each.authority) << each.text;
  }
  EXPECT_EQ(parse_url("https://h/a?api-version=1")->query, "api-version=1");
  EXPECT_EQ(parse_url("http://us%40er:p%3Aw@proxy:3128")->userinfo, "us@er:p:w");
}

TEST(Url, is_refused_with_a_reason_that_keeps_the_password) {
  for (const char* text :
       {"", "api.openai.com", "ftp://h", "http://", "http://:80", "http://h:0", "http://h:65536",
        "http://h:8x", "http://h:", "http://[::1", "http://[zz]", "http://a b", "http://a\n",
        "http://h/#x", "http://ho_st/?#", "http://u:sesame%zz@h", "http://a,b"}) {
    const auto url = parse_url(text);
    ASSERT_FALSE(url) << text;
    EXPECT_EQ(url.error().message.find("sesame"), std::string::npos);
  }
}

TEST(Percent, escapes_come_and_go) {
  EXPECT_EQ(percent_decode("a%20b%2fc+d"), "a b/c+d");
  EXPECT_EQ(percent_decode("%E2%82%AC"), "\xE2\x82\xAC");
  for (const char* broken : {"%", "%2", "%zz", "a%00b"})
    EXPECT_FALSE(percent_decode(broken)) << broken;
  std::string out;
  append_percent_encoded(out, "gpt 4/o:\xE2\x82\xAC~");
  EXPECT_EQ(out, "gpt%204%2Fo%3A%E2%82%AC~");
}

TEST(Query, values_are_found_by_key) {
  EXPECT_EQ(query_value("key=a%20b&alt=sse", "key"), "a b");
  EXPECT_EQ(query_value("x=1&key=a+b", "key"), "a b");
  EXPECT_EQ(query_value("key", "key"), "");
  EXPECT_EQ(query_value("k%65y=1", "key"), "1");
  EXPECT_FALSE(query_value("monkey=1&ke=2", "key"));
  EXPECT_FALSE(query_value("", "key"));
}

}  // namespace
}  // namespace llm_proxy
