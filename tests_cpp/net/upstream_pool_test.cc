#include "net/upstream_pool.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "net/tls_client.h"
#include "tests_cpp/net/harness.h"

namespace llm_proxy {
namespace {

using namespace testing_net;
using std::chrono::milliseconds;

constexpr milliseconds kTimeout{4000};

struct PoolTest : WorkerFixture {
  UpstreamOptions options;
  std::unique_ptr<UpstreamPool> pool;
  Acceptor upstream;

  void start() {
    auto environment = make_upstream_environment(options);
    ASSERT_TRUE(environment) << environment.error().message;
    on_worker([&] { pool = std::make_unique<UpstreamPool>(worker, *environment); });
  }
  void TearDown() override {
    on_worker([&] { pool.reset(); });
    WorkerFixture::TearDown();
  }
  Endpoint here(bool tls = false, std::string host = "127.0.0.1") {
    return {tls, std::move(host), upstream.port()};
  }

  // What came of a connect: the connection lives on the worker until `dropped` there.
  struct Attempt {
    ConnectTicket ticket;
    std::optional<Connection> connection;
    std::optional<Error> error;
    Awaited<bool> settled;
  };
  std::shared_ptr<Attempt> connect(const Endpoint& endpoint) {
    auto attempt = std::make_shared<Attempt>();
    on_worker([&] {
      attempt->ticket =
          pool->connect(endpoint, kTimeout, [at = attempt.get()](Result<Connection> result) {
            if (result) at->connection.emplace(std::move(*result));
            if (!result) at->error = result.error();
            at->settled.set(static_cast<bool>(result));
          });
      EXPECT_FALSE(attempt->connection || attempt->error) << "settled from within connect";
    });
    return attempt;
  }
  void finish(std::shared_ptr<Attempt>& attempt) {
    on_worker([&] {
      attempt->ticket.reset();
      attempt->connection.reset();
    });
  }
  void release(std::shared_ptr<Attempt>& attempt) {
    on_worker([&] {
      pool->release(std::move(*attempt->connection));
      attempt->connection.reset();
      attempt->ticket.reset();
    });
  }
  bool has_idle(const Endpoint& endpoint) {
    return on_worker([&] { return pool->take_idle(endpoint).has_value(); });
  }
  std::string exchange(Connection& connection, std::string_view request, std::size_t reply) {
    std::string got;
    Awaited<bool> done;
    struct Reader {
      ByteStream& stream;
      std::string& got;
      std::size_t reply;
      Awaited<bool>& done;
      void read() {
        stream.read_scratch([this](ErrorCode error, std::string_view bytes) {
          got += bytes;
          if (error || got.size() >= reply) return done.set(!error);
          read();
        });
      }
    } reader{connection.stream(), got, reply, done};
    on_worker([&] {
      const std::array<std::string_view, 2> pieces{request.substr(0, 3), request.substr(3)};
      if (!connection.stream().write(pieces, [&](ErrorCode) { reader.read(); })) return;
      reader.read();
    });
    done.get();
    return got;
  }
};

TEST_F(PoolTest, connects_and_uses_a_connection_again) {
  start();
  auto attempt = connect(here());
  Peer peer = upstream.accept();
  ASSERT_TRUE(attempt->settled.get()) << attempt->error->message;
  EXPECT_FALSE(attempt->connection->reused());
  EXPECT_FALSE(attempt->connection->absolute_form());
  peer.send("pong");
  EXPECT_EQ(exchange(*attempt->connection, "ping", 4), "pong");
  EXPECT_EQ(peer.receive(4), "ping");
  release(attempt);
  EXPECT_EQ(pool->counters().idle, 1u);
  EXPECT_EQ(pool->counters().open, 1u);

  std::optional<Connection> again = on_worker([&] { return pool->take_idle(here()); });
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->reused());
  EXPECT_EQ(pool->counters().idle, 0u);
  peer.send("PONG");
  EXPECT_EQ(exchange(*again, "PING", 4), "PONG");
  on_worker([&] { again.reset(); });
  EXPECT_EQ(pool->counters().open, 0u);
}

TEST_F(PoolTest, keeps_endpoints_apart) {
  start();
  auto attempt = connect(here());
  ASSERT_TRUE(attempt->settled.get());
  release(attempt);
  EXPECT_FALSE(has_idle(here(true)));
  EXPECT_FALSE(has_idle(here(false, "localhost")));
  EXPECT_TRUE(has_idle(here()));
}

TEST_F(PoolTest, never_hands_out_a_connection_that_spoke_out_of_turn_or_was_closed) {
  start();
  for (const bool says_something : {true, false}) {
    auto attempt = connect(here());
    Peer peer = upstream.accept();
    ASSERT_TRUE(attempt->settled.get());
    release(attempt);
    if (says_something) {
      peer.send("HTTP/1.1 200 OK\r\n");
    } else {
      peer.close();
    }
    EXPECT_FALSE(has_idle(here()));
    EXPECT_EQ(pool->counters().open, 0u);
  }
}

TEST_F(PoolTest, forgets_a_connection_nobody_used_for_a_while) {
  start();
  auto attempt = connect(here());
  Peer peer = upstream.accept();
  ASSERT_TRUE(attempt->settled.get());
  release(attempt);
  pass(options.idle_timeout - milliseconds(1));
  EXPECT_EQ(pool->counters().idle, 1u);
  pass(milliseconds(1));
  EXPECT_EQ(pool->counters().idle, 0u);
  EXPECT_TRUE(peer.at_end());
}

TEST_F(PoolTest, keeps_no_more_idle_connections_than_it_may) {
  options.max_idle_per_endpoint = 2;
  start();
  std::vector<Peer> peers;
  for (int i = 0; i < 3; ++i) {
    auto attempt = connect(here());
    peers.push_back(upstream.accept());
    ASSERT_TRUE(attempt->settled.get());
    // Held until all are open, or the next would reuse it: connect() is always fresh.
    release(attempt);
  }
  EXPECT_EQ(pool->counters().idle, 2u);
  EXPECT_EQ(pool->counters().open, 2u);
  EXPECT_TRUE(peers[0].at_end()) << "the oldest goes first";
}

TEST_F(PoolTest, names_the_cause_when_refused_and_the_address_for_the_log_alone) {
  start();
  std::uint16_t closed_port = 0;
  {
    const Acceptor closed;
    closed_port = closed.port();
  }
  auto attempt = connect({false, "127.0.0.1", closed_port});
  ASSERT_FALSE(attempt->settled.get());
  EXPECT_EQ(attempt->error->kind, ErrorKind::upstream_unreachable);
  EXPECT_EQ(attempt->error->message, "Connection refused.");
  EXPECT_EQ(attempt->error->detail, "127.0.0.1:" + std::to_string(closed_port));
  finish(attempt);
}

TEST_F(PoolTest, tries_each_address_of_a_name) {
  start();
  auto attempt = connect(here(false, "localhost"));  // may mean ::1 first, where nobody listens
  EXPECT_TRUE(attempt->settled.get()) << attempt->error->message;
  finish(attempt);
}

TEST_F(PoolTest, says_when_a_name_cannot_be_resolved) {
  start();
  auto attempt = connect({false, "no..such..host", 80});
  ASSERT_FALSE(attempt->settled.get());
  EXPECT_EQ(attempt->error->kind, ErrorKind::upstream_unreachable);
  EXPECT_NE(attempt->error->message.find("its name cannot be resolved"), std::string::npos)
      << attempt->error->message;
  EXPECT_EQ(attempt->error->message.find("such"), std::string::npos) << attempt->error->message;
  EXPECT_EQ(attempt->error->detail, "no..such..host:80");
  finish(attempt);
}

TEST_F(PoolTest, gives_up_when_the_time_for_connecting_is_over) {
  start();
  auto attempt = connect(here(true));
  Peer silent = upstream.accept();
  EXPECT_EQ(silent.receive(1), "\x16") << "the ClientHello";
  pass(kTimeout);
  ASSERT_FALSE(attempt->settled.get());
  EXPECT_EQ(attempt->error->kind, ErrorKind::upstream_timeout);
  EXPECT_NE(attempt->error->message.find("TLS handshake"), std::string::npos)
      << attempt->error->message;
  finish(attempt);
}

TEST_F(PoolTest, forgets_a_connect_whose_ticket_was_destroyed) {
  start();
  auto attempt = connect(here(true));
  Peer peer = upstream.accept();
  on_worker([&] { attempt->ticket.reset(); });
  while (!peer.receive(1).empty()) {
  }
  on_worker([] {});
  EXPECT_FALSE(attempt->connection || attempt->error);
}

TEST_F(PoolTest, closes_idle_connections_when_asked) {
  start();
  auto attempt = connect(here());
  Peer peer = upstream.accept();
  ASSERT_TRUE(attempt->settled.get());
  release(attempt);
  on_worker([&] { pool->close_idle(); });
  EXPECT_TRUE(peer.at_end());
}

struct TlsPoolTest : PoolTest {
  Certificates certificates{"upstream.test"};
  Certificates local{"127.0.0.1"};

  std::future<TlsPeer> accept(const Certificates& with) {
    return std::async(std::launch::async,
                      [this, &with] { return TlsPeer(upstream.accept(), with); });
  }
};

TEST_F(TlsPoolTest, speaks_tls_to_an_upstream_it_can_verify) {
  options.ca_file = local.authority_file();
  start();
  auto served = accept(local);
  auto attempt = connect(here(true));
  TlsPeer peer = served.get();
  ASSERT_TRUE(attempt->settled.get()) << attempt->error->message;
  const std::string request(300'000, 'q');
  const std::string reply(500'000, 'r');
  auto other_side = std::async(std::launch::async, [&] {
    const std::string got = peer.receive(request.size());
    peer.send(reply);
    return got;
  });
  EXPECT_EQ(exchange(*attempt->connection, request, reply.size()), reply);
  EXPECT_EQ(other_side.get(), request);
  release(attempt);
  EXPECT_TRUE(has_idle(here(true))) << "session tickets are no stray bytes";
}

TEST_F(TlsPoolTest, resumes_the_session_of_an_earlier_connection) {
  options.ca_file = local.authority_file();
  start();
  for (const bool expected : {false, true}) {
    auto served = accept(local);
    auto attempt = connect(here(true));
    TlsPeer peer = served.get();
    ASSERT_TRUE(attempt->settled.get()) << attempt->error->message;
    EXPECT_EQ(
        on_worker([&] { return static_cast<TlsStream&>(attempt->connection->stream()).resumed(); }),
        expected);
    peer.send("pong");  // the ticket comes with it
    EXPECT_EQ(exchange(*attempt->connection, "ping", 4), "pong");
    finish(attempt);
  }
}

TEST_F(TlsPoolTest, refuses_an_upstream_of_another_name) {
  options.ca_file = certificates.authority_file();
  start();
  auto served = accept(certificates);
  auto attempt = connect(here(true));
  ASSERT_FALSE(attempt->settled.get());
  EXPECT_EQ(attempt->error->kind, ErrorKind::upstream_unreachable);
  EXPECT_NE(attempt->error->message.find("certificate is not accepted: IP address mismatch"),
            std::string::npos)
      << attempt->error->message;
  EXPECT_FALSE(served.get().accepted());
  finish(attempt);
}

TEST_F(TlsPoolTest, refuses_an_upstream_nobody_vouches_for) {
  options.ca_file = certificates.authority_file();
  start();
  auto served = accept(local);
  auto attempt = connect(here(true));
  ASSERT_FALSE(attempt->settled.get());
  EXPECT_NE(attempt->error->message.find("certificate is not accepted"), std::string::npos)
      << attempt->error->message;
  finish(attempt);
  served.get();
}

TEST_F(TlsPoolTest, tells_a_goodbye_from_a_cut) {
  options.ca_file = local.authority_file();
  start();
  for (const bool properly : {true, false}) {
    auto served = accept(local);
    auto attempt = connect(here(true));
    TlsPeer peer = served.get();
    ASSERT_TRUE(attempt->settled.get());
    Awaited<bool> ended;
    on_worker([&] {
      attempt->connection->stream().read_scratch(
          [&](ErrorCode error, std::string_view) { ended.set(is_eof(error)); });
    });
    if (properly) peer.end();
    peer.peer().close();
    EXPECT_EQ(ended.get(), properly);
    finish(attempt);
  }
}

TEST_F(TlsPoolTest, goes_through_a_proxy_by_a_tunnel) {
  options.ca_file = certificates.authority_file();
  options.https_proxy = "http://user:pass@127.0.0.1:" + std::to_string(upstream.port());
  start();
  auto served = std::async(std::launch::async, [this] {
    Peer peer = upstream.accept();
    std::string head = peer.receive_head();
    peer.send("HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n");
    return std::pair(head, TlsPeer(std::move(peer), certificates));
  });
  auto attempt = connect({true, "upstream.test", 443});
  auto [head, peer] = served.get();
  ASSERT_TRUE(attempt->settled.get()) << attempt->error->message;
  EXPECT_EQ(head,
            "CONNECT upstream.test:443 HTTP/1.1\r\nHost: upstream.test:443\r\n"
            "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n");
  EXPECT_EQ(peer.server_name(), "upstream.test");
  EXPECT_FALSE(attempt->connection->absolute_form());
  peer.send("pong");
  EXPECT_EQ(exchange(*attempt->connection, "ping", 4), "pong");
  finish(attempt);
}

TEST_F(TlsPoolTest, says_so_when_the_proxy_refuses) {
  options.https_proxy = "127.0.0.1:" + std::to_string(upstream.port());
  start();
  auto served = std::async(std::launch::async, [this] {
    Peer peer = upstream.accept();
    peer.receive_head();
    peer.send("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    return peer;
  });
  auto attempt = connect({true, "upstream.test", 443});
  ASSERT_FALSE(attempt->settled.get());
  EXPECT_NE(attempt->error->message.find("refuses the tunnel with status 407"), std::string::npos)
      << attempt->error->message;
  EXPECT_EQ(attempt->error->kind, ErrorKind::upstream_unreachable);
  finish(attempt);
  served.get();
}

TEST_F(TlsPoolTest, goes_through_a_socks_proxy) {
  using namespace std::string_literals;
  options.ca_file = certificates.authority_file();
  options.all_proxy = "socks5h://me:p%40ss@127.0.0.1:" + std::to_string(upstream.port());
  start();
  auto served = std::async(std::launch::async, [this] {
    Peer peer = upstream.accept();
    std::string heard = peer.receive(4);
    peer.send("\5\2"s);
    heard += peer.receive(9);
    peer.send("\1\0"s);
    heard += peer.receive(4 + 1 + 13 + 2);
    peer.send("\5\0\0\1\0\0\0\0\0\0"s);
    return std::pair(heard, TlsPeer(std::move(peer), certificates));
  });
  auto attempt = connect({true, "upstream.test", 443});
  auto [heard, peer] = served.get();
  ASSERT_TRUE(attempt->settled.get()) << attempt->error->message;
  EXPECT_EQ(heard, "\5\2\0\2\1\2me\4p@ss\5\1\0\3\15upstream.test\1\273"s);
  EXPECT_EQ(peer.server_name(), "upstream.test");
  peer.send("pong");
  EXPECT_EQ(exchange(*attempt->connection, "ping", 4), "pong");
  finish(attempt);
}

TEST_F(PoolTest, a_plain_upstream_behind_socks_is_asked_as_if_there_were_no_proxy) {
  using namespace std::string_literals;
  options.http_proxy = "socks5://127.0.0.1:" + std::to_string(upstream.port());
  start();
  auto served = std::async(std::launch::async, [this] {
    Peer peer = upstream.accept();
    std::string heard = peer.receive(3);
    peer.send("\5\0"s);
    heard += peer.receive(10);
    peer.send("\5\0\0\1\0\0\0\0\0\0"s);
    return std::pair(heard, std::move(peer));
  });
  auto attempt = connect({false, "10.1.2.3", 80});
  auto [heard, peer] = served.get();
  ASSERT_TRUE(attempt->settled.get()) << attempt->error->message;
  EXPECT_EQ(heard, "\5\1\0\5\1\0\1\12\1\2\3\0\120"s);
  EXPECT_FALSE(attempt->connection->absolute_form());
  finish(attempt);
}

TEST_F(PoolTest, says_so_when_a_socks_proxy_refuses) {
  using namespace std::string_literals;
  options.http_proxy = "socks5h://127.0.0.1:" + std::to_string(upstream.port());
  start();
  auto served = std::async(std::launch::async, [this] {
    Peer peer = upstream.accept();
    peer.receive(3);
    peer.send("\5\0"s);
    peer.receive(4 + 1 + 13 + 2);
    peer.send("\5\4\0\1\0\0\0\0\0\0"s);
    return peer;
  });
  auto attempt = connect({false, "upstream.test", 80});
  ASSERT_FALSE(attempt->settled.get());
  EXPECT_NE(attempt->error->message.find("host unreachable"), std::string::npos)
      << attempt->error->message;
  finish(attempt);
  served.get();
}

TEST_F(TlsPoolTest, a_proxy_that_answers_without_end_is_given_up) {
  options.https_proxy = "127.0.0.1:" + std::to_string(upstream.port());
  start();
  auto served = std::async(std::launch::async, [this] {
    Peer peer = upstream.accept();
    peer.receive_head();
    while (peer.send("HTTP/1.1 100 Continue\r\n\r\n")) {
    }
  });
  auto attempt = connect({true, "upstream.test", 443});
  ASSERT_FALSE(attempt->settled.get());
  EXPECT_NE(attempt->error->message.find("interim replies without end"), std::string::npos)
      << attempt->error->message;
  finish(attempt);
  served.get();
}

TEST_F(PoolTest, leaves_plain_requests_to_the_proxy) {
  options.http_proxy = "http://u:p@127.0.0.1:" + std::to_string(upstream.port());
  start();
  auto attempt = connect({false, "upstream.test", 80});
  ASSERT_TRUE(attempt->settled.get()) << attempt->error->message;
  EXPECT_TRUE(attempt->connection->absolute_form());
  EXPECT_EQ(attempt->connection->proxy_authorization(), "Basic dTpw");
  finish(attempt);
}

TEST(UpstreamEnvironment, names_the_setting_at_fault) {
  UpstreamOptions bad_ca;
  bad_ca.ca_file = "/nonexistent/ca.pem";
  const auto no_ca = make_upstream_environment(bad_ca);
  ASSERT_FALSE(no_ca);
  EXPECT_NE(no_ca.error().message.find("/nonexistent/ca.pem"), std::string::npos);
  UpstreamOptions bad_proxy;
  bad_proxy.https_proxy = "https://secret@h:1";
  const auto no_proxy = make_upstream_environment(bad_proxy);
  ASSERT_FALSE(no_proxy);
  EXPECT_NE(no_proxy.error().message.find("HTTPS_PROXY"), std::string::npos);
  EXPECT_EQ(no_proxy.error().message.find("secret"), std::string::npos);
}

}  // namespace
}  // namespace llm_proxy
