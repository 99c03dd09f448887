#include <gtest/gtest.h>
#include <sys/resource.h>

#include <array>
#include <boost/asio/error.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "net/byte_stream.h"
#include "net/listener.h"
#include "tests_cpp/net/harness.h"

namespace llm_proxy {
namespace {

using namespace testing_net;
using std::chrono::milliseconds;

struct StreamTest : WorkerFixture {
  std::unique_ptr<Listener> listener;
  std::vector<StreamPtr> accepted;
  std::unique_ptr<Awaited<bool>> came;

  void SetUp() override {
    auto opened = Listener::open(worker, {}, [this](StreamPtr stream) {
      accepted.push_back(std::move(stream));
      came->set(true);
    });
    ASSERT_TRUE(opened) << opened.error().message;
    listener = std::move(*opened);
    WorkerFixture::SetUp();
  }
  void TearDown() override {
    on_worker([this] {
      listener.reset();
      accepted.clear();
    });
    WorkerFixture::TearDown();
  }
  Peer connect() {
    came = std::make_unique<Awaited<bool>>();
    Peer peer = Peer::connect(listener->port());
    EXPECT_TRUE(peer.connected());
    came->get();
    return peer;
  }
  ByteStream& stream() { return *accepted.back(); }
};

TEST_F(StreamTest, reads_and_writes) {
  Peer peer = connect();
  Awaited<std::string> read;
  on_worker([&] {
    ByteBuffer buffer;
    buffer.append("before, ");
    stream().read_into(std::move(buffer), 64, [&](ErrorCode error, ByteBuffer filled) {
      read.set(error ? error.message() : std::string(filled.view()));
    });
  });
  peer.send("hello");
  EXPECT_EQ(read.get(), "before, hello");
  const bool at_once = on_worker([&] {
    const std::array<std::string_view, 3> pieces{"one ", "", "write"};
    return stream().write(pieces, [](ErrorCode) { ADD_FAILURE() << "it was done already"; });
  });
  EXPECT_TRUE(at_once);
  EXPECT_EQ(peer.receive(9), "one write");
  EXPECT_EQ(on_worker([&] { return stream().peer_address(); }), "127.0.0.1");
}

TEST_F(StreamTest, sees_the_peer_leave_while_it_writes) {
  Peer peer = connect();
  Awaited<bool> left;
  on_worker([&] {
    stream().read_scratch([&](ErrorCode error, std::string_view) { left.set(is_eof(error)); });
    for (int i = 0; i < 3; ++i) {
      const std::array<std::string_view, 1> pieces{"chunk"};
      EXPECT_TRUE(stream().write(pieces, [](ErrorCode) {}));
    }
  });
  EXPECT_EQ(peer.receive(15), "chunkchunkchunk");
  peer.close();
  EXPECT_TRUE(left.get());
}

TEST_F(StreamTest, finishes_a_write_the_peer_is_slow_to_take) {
  Peer peer = connect();
  // More than the buffers of both sockets may grow to.
  std::string big(16 << 20, 'x');
  for (std::size_t i = 0; i < big.size(); ++i) big[i] = static_cast<char>('a' + i % 23);
  for (const bool copied : {false, true}) {
    Awaited<bool> done;
    std::string mortal = big;
    on_worker([&] {
      const std::string_view all = mortal;
      const std::array<std::string_view, 3> pieces{all.substr(0, 10), all.substr(10, 3 << 20),
                                                   all.substr(10 + (3 << 20))};
      const auto on_done = [&](ErrorCode error) { done.set(!error); };
      const bool at_once =
          copied ? stream().write_copied(pieces, on_done) : stream().write(pieces, on_done);
      EXPECT_FALSE(at_once);
      EXPECT_TRUE(stream().writing());
      if (copied) mortal.assign(mortal.size(), '#');
    });
    EXPECT_EQ(peer.receive(big.size()), big);
    EXPECT_TRUE(done.get());
    EXPECT_FALSE(on_worker([&] { return stream().writing(); }));
  }
}

TEST_F(StreamTest, says_so_when_a_write_cannot_be_finished) {
  Peer peer = connect();
  const std::string big(16 << 20, 'x');
  Awaited<bool> failed;
  on_worker([&] {
    const std::array<std::string_view, 1> pieces{big};
    EXPECT_FALSE(
        stream().write(pieces, [&](ErrorCode error) { failed.set(static_cast<bool>(error)); }));
  });
  peer.close();
  EXPECT_TRUE(failed.get());
}

TEST_F(StreamTest, reads_large_amounts_in_pieces_of_the_scratch) {
  Peer peer = connect();
  const std::string big(3 << 20, 'y');
  std::size_t got = 0;
  Awaited<bool> done;
  struct Reader {
    ByteStream& stream;
    std::size_t& got;
    Awaited<bool>& done;
    void read() {
      stream.read_scratch([this](ErrorCode error, std::string_view bytes) {
        got += bytes.size();
        if (error) return done.set(is_eof(error));
        read();
      });
    }
  };
  std::optional<Reader> reader;
  on_worker([&] {
    reader.emplace(Reader{stream(), got, done});
    reader->read();
  });
  EXPECT_TRUE(peer.send(big));
  peer.close();
  EXPECT_TRUE(done.get());
  EXPECT_EQ(got, big.size());
}

TEST_F(StreamTest, calls_no_handler_after_it_was_closed) {
  Peer peer = connect();
  const auto held = std::make_shared<int>();
  on_worker([&] {
    stream().read_scratch(
        [held](ErrorCode, std::string_view) { ADD_FAILURE() << "a handler of a closed stream"; });
    accepted.clear();
    EXPECT_EQ(held.use_count(), 1) << "the handler outlives its stream";
  });
  EXPECT_TRUE(peer.at_end());
  on_worker([] {});
}

TEST_F(StreamTest, may_be_destroyed_by_its_own_handler) {
  Peer peer = connect();
  Awaited<bool> gone;
  on_worker([&] {
    stream().read_scratch([&](ErrorCode, std::string_view) {
      accepted.clear();
      gone.set(true);
    });
  });
  peer.send("x");
  EXPECT_TRUE(gone.get());
  EXPECT_TRUE(peer.receive(1).empty());
}

TEST_F(StreamTest, ends_uncleanly_when_reset) {
  Peer peer = connect();
  on_worker([&] {
    const std::array<std::string_view, 1> pieces{"part"};
    EXPECT_TRUE(stream().write(pieces, [](ErrorCode) {}));
    stream().reset();
  });
  while (!peer.receive(1).empty()) {
  }
  EXPECT_EQ(peer.last_errno, ECONNRESET);
}

TEST_F(StreamTest, reads_on_after_it_ended_its_own_direction) {
  Peer peer = connect();
  Awaited<std::string> read;
  on_worker([&] {
    stream().shutdown_write();
    stream().read_scratch([&](ErrorCode, std::string_view bytes) { read.set(std::string(bytes)); });
  });
  EXPECT_TRUE(peer.at_end());
  peer.send("late");
  EXPECT_EQ(read.get(), "late");
}

TEST_F(StreamTest, keeps_for_the_next_read_what_came_after_a_read_was_cancelled) {
  Peer peer = connect();
  on_worker([&] {
    stream().read_scratch([](ErrorCode, std::string_view) { ADD_FAILURE() << "cancelled"; });
    stream().cancel_read();
    EXPECT_TRUE(stream().quiet());
  });
  peer.send("kept");
  Awaited<std::string> read;
  on_worker([&] {
    stream().read_scratch([&](ErrorCode, std::string_view bytes) { read.set(std::string(bytes)); });
  });
  EXPECT_EQ(read.get(), "kept");
}

// A second reader would fill memory that the first, or nobody, owns. It costs the connection.
TEST_F(StreamTest, two_reads_at_once_cut_the_connection_and_call_the_first_reader_only) {
  for (const bool into_a_buffer : {false, true}) {
    Peer peer = connect();
    Awaited<ErrorCode> ended;
    const auto first = [&](ErrorCode error, auto&&) { ended.set(error); };
    const auto second = [](ErrorCode, auto&&) { ADD_FAILURE() << "it was never begun"; };
    on_worker([&] {
      if (into_a_buffer) {
        stream().read_into(ByteBuffer(), 64, first);
        stream().read_scratch(second);
      } else {
        stream().read_scratch(first);
        stream().read_into(ByteBuffer(), 64, second);
      }
      EXPECT_TRUE(stream().reading());
    });
    peer.send(std::string(100'000, 'x'));
    EXPECT_EQ(ended.get(), boost::asio::error::already_started);
    on_worker([&] { accepted.clear(); });
  }
}

TEST_F(StreamTest, two_writes_at_once_cut_the_connection_and_call_the_first_writer_only) {
  Peer peer = connect();
  const std::string much(32 << 20, 'x');
  Awaited<bool> failed;
  on_worker([&] {
    const std::array pieces{std::string_view(much)};
    EXPECT_FALSE(
        stream().write(pieces, [&](ErrorCode error) { failed.set(static_cast<bool>(error)); }));
    EXPECT_FALSE(stream().write(pieces, [](ErrorCode) { ADD_FAILURE() << "it was never begun"; }));
  });
  EXPECT_TRUE(failed.get());
}

// A buffer whose read was cancelled is gone; what comes later goes to the next read alone.
TEST_F(StreamTest, a_cancelled_read_leaves_no_target_behind) {
  Peer peer = connect();
  on_worker([&] {
    stream().read_into(ByteBuffer(), 1 << 20,
                       [](ErrorCode, ByteBuffer) { ADD_FAILURE() << "cancelled"; });
    stream().cancel_read();
    EXPECT_FALSE(stream().reading());
  });
  Awaited<std::size_t> read;
  on_worker([&] {
    stream().read_into(ByteBuffer(), 3, [&](ErrorCode, ByteBuffer got) { read.set(got.size()); });
  });
  peer.send(std::string(200'000, 'x'));
  EXPECT_EQ(read.get(), 3u);
}

TEST_F(StreamTest, is_not_quiet_once_something_came_or_the_peer_left) {
  {
    Peer peer = connect();
    EXPECT_TRUE(on_worker([&] { return stream().quiet(); }));
    peer.send("x");
    EXPECT_FALSE(on_worker([&] { return stream().quiet(); }));
  }
  Peer peer = connect();
  peer.close();
  EXPECT_FALSE(on_worker([&] { return stream().quiet(); }));
}

TEST_F(StreamTest, a_port_in_use_is_an_error_unless_it_is_shared) {
  const std::uint16_t port = listener->port();
  const auto ignore = [](StreamPtr) {};
  on_worker([&] {
    const auto taken = Listener::open(worker, {.port = port}, ignore);
    ASSERT_FALSE(taken);
    EXPECT_NE(taken.error().message.find(std::to_string(port)), std::string::npos);
    const auto shared = Listener::open(worker, {.port = port, .share_port = true}, ignore);
    EXPECT_TRUE(shared) << shared.error().message;
  });
}

TEST_F(StreamTest, a_bad_address_is_an_error) {
  const auto opened =
      on_worker([&] { return Listener::open(worker, {.host = "no such host"}, [](StreamPtr) {}); });
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message.find("no such host"), std::string::npos);
}

TEST_F(StreamTest, every_address_of_the_machine_is_one_host_to_listen_on) {
  Awaited<bool> reached;
  std::unique_ptr<Listener> all;
  on_worker([&] {
    auto opened = Listener::open(worker, {.host = "*"}, [&](StreamPtr) { reached.set(true); });
    ASSERT_TRUE(opened) << opened.error().message;
    all = std::move(*opened);
  });
  Peer peer = Peer::connect(all->port());
  EXPECT_TRUE(reached.get());
  on_worker([&] { all.reset(); });
}

TEST_F(StreamTest, accepting_goes_on_after_files_ran_out) {
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  came = std::make_unique<Awaited<bool>>();
  Peer peer(::socket(AF_INET, SOCK_STREAM, 0));
  const std::string said = testing::TempDir() + "shortage_" + std::to_string(::getpid());
  ASSERT_TRUE(log_to_file(said));
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(peer.fd()) + 1;
  setrlimit(RLIMIT_NOFILE, &none);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(listener->port());
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::connect(peer.fd(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  // The back-off is a deadline: the worker has met the shortage once that is armed.
  const auto meet_it = [&] {
    while (on_worker([&] { return worker.deadlines(milliseconds(100)).empty(); }))
      std::this_thread::yield();
  };
  meet_it();
  for (int again = 0; again < 8; ++again) {
    pass(milliseconds(100));
    meet_it();
  }
  EXPECT_TRUE(accepted.empty());
  setrlimit(RLIMIT_NOFILE, &before);
  ASSERT_TRUE(log_to_file(""));
  std::ifstream log(said);
  std::string line;
  EXPECT_TRUE(std::getline(log, line));
  EXPECT_NE(line.find("cannot accept connections"), std::string::npos) << line;
  EXPECT_FALSE(std::getline(log, line)) << "said twice within a second: " << line;
  ::unlink(said.c_str());
  clock.advance(milliseconds(100));
  EXPECT_TRUE(came->get());
}

}  // namespace
}  // namespace llm_proxy
