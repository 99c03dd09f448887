#include "net/stream_lane.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "net/byte_stream.h"
#include "net/listener.h"
#include "tests_cpp/net/harness.h"

namespace llm_proxy {
namespace {

using namespace testing_net;

constexpr std::size_t kMany = StreamLane::kCrowd + 8;

// A stream of the worker that is read to its end, and the test's side of it.
struct Reader {
  explicit Reader(Peer peer) : peer(std::move(peer)) {}

  void read() {
    stream->read_scratch([this](ErrorCode error, std::string_view bytes) {
      if (error) {
        end.set(is_eof(error));
        return;
      }
      got += bytes;
      if (on_bytes) on_bytes();
      if (got.size() >= wanted) {
        wanted = std::string::npos;
        return whole->set(true);
      }
      if (stream && !paused) read();
    });
  }
  void expect(std::size_t size) {
    wanted = size;
    whole = std::make_unique<Awaited<bool>>();
  }

  Peer peer;
  StreamPtr stream;
  std::string got;
  std::size_t wanted = std::string::npos;
  bool paused = false;
  std::function<void()> on_bytes;
  std::unique_ptr<Awaited<bool>> whole;
  Awaited<bool> end;
};

struct StreamLaneTest : WorkerFixture {
  std::unique_ptr<Listener> listener;
  StreamPtr accepted;
  std::unique_ptr<Awaited<bool>> came;
  std::vector<std::unique_ptr<Reader>> readers;

  void SetUp() override {
    auto opened = Listener::open(worker, {}, [this](StreamPtr stream) {
      accepted = std::move(stream);
      came->set(true);
    });
    ASSERT_TRUE(opened) << opened.error().message;
    listener = std::move(*opened);
    WorkerFixture::SetUp();
  }
  void TearDown() override {
    on_worker([this] {
      listener.reset();
      for (const auto& reader : readers) reader->stream.reset();
    });
    EXPECT_EQ(members(), 0u);
    WorkerFixture::TearDown();
  }

  void open(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      came = std::make_unique<Awaited<bool>>();
      readers.push_back(std::make_unique<Reader>(Peer::connect(listener->port())));
      came->get();
      readers.back()->stream = std::move(accepted);
    }
  }
  void set_streaming(bool on) {
    on_worker([&] {
      for (const auto& reader : readers) reader->stream->set_streaming(on);
    });
  }
  void read_all() {
    on_worker([&] {
      for (const auto& reader : readers) {
        if (!reader->stream->reading()) reader->read();
      }
    });
  }
  // Each reader is sent `text`, and has it.
  void send_all(const std::string& text) {
    on_worker([&] {
      for (const auto& reader : readers) reader->expect(reader->got.size() + text.size());
    });
    for (const auto& reader : readers) reader->peer.send(text);
    for (const auto& reader : readers) {
      EXPECT_TRUE(reader->whole->get());
      EXPECT_TRUE(on_worker([&] { return reader->got.ends_with(text); }));
    }
    read_all();
  }
  std::size_t members() {
    return on_worker([&] { return worker.stream_lane().members(); });
  }
};

TEST_F(StreamLaneTest, few_streams_wait_in_the_loop_and_many_in_the_lane) {
  for (const std::size_t count : {StreamLane::kCrowd - 1, kMany}) {
    open(count - readers.size());
    set_streaming(true);
    read_all();
    send_all("first ");
    send_all("second");
    EXPECT_EQ(members(), count < StreamLane::kCrowd ? 0 : count);
  }
}

TEST_F(StreamLaneTest, every_byte_arrives_in_order_however_fast_they_come) {
  open(kMany);
  set_streaming(true);
  read_all();
  std::string all;
  for (int round = 0; round < 200; ++round) {
    all = "round " + std::to_string(round) + std::string(round % 7 == 0 ? 70'000 : 10, 'x');
    send_all(all);
  }
}

TEST_F(StreamLaneTest, the_peers_end_is_seen_after_its_last_bytes) {
  open(kMany);
  set_streaming(true);
  read_all();
  send_all("begun");
  for (const auto& reader : readers) {
    reader->peer.send("last");
    reader->peer.close();
  }
  for (const auto& reader : readers) {
    EXPECT_TRUE(reader->end.get());
    EXPECT_EQ(reader->got, "begunlast");
  }
}

TEST_F(StreamLaneTest, who_does_not_read_loses_nothing_and_hinders_nobody) {
  open(kMany);
  set_streaming(true);
  read_all();
  send_all("begun");
  Reader& slow = *readers.front();
  on_worker([&] { slow.paused = true; });
  slow.peer.send("one");
  while (on_worker([&] { return slow.got; }) != "begunone") continue;
  slow.peer.send("two");
  const std::string big(3 << 20, 'b');
  Reader& other = *readers.back();
  on_worker([&] { other.expect(other.got.size() + big.size()); });
  other.peer.send(big);
  EXPECT_TRUE(other.whole->get());
  EXPECT_EQ(on_worker([&] { return slow.got; }), "begunone");
  while (members() == kMany) continue;  // it is not asked about any more
  on_worker([&] {
    slow.paused = false;
    slow.expect(11);
    slow.read();
  });
  EXPECT_TRUE(slow.whole->get());
  EXPECT_EQ(slow.got, "begunonetwo");
}

TEST_F(StreamLaneTest, a_stream_that_another_ones_handler_closes_is_not_called) {
  open(kMany);
  set_streaming(true);
  read_all();
  send_all("begun");
  int called = 0;
  on_worker([&] {
    for (const auto& reader : readers) {
      reader->on_bytes = [&] {
        ++called;
        for (const auto& other : readers) other->stream.reset();
      };
    }
    for (const auto& reader : readers) reader->peer.send("all at once");
  });
  for (const auto& reader : readers) {
    while (!reader->peer.receive(1).empty()) continue;
  }
  EXPECT_EQ(on_worker([&] { return called; }), 1);
}

TEST_F(StreamLaneTest, a_stream_that_leaves_the_lane_is_read_and_written_as_before) {
  open(kMany);
  set_streaming(true);
  read_all();
  send_all("in the lane");
  ASSERT_EQ(members(), kMany);
  set_streaming(false);
  EXPECT_EQ(members(), 0u);
  send_all("out of it");
  set_streaming(true);
  send_all("and back");
  ASSERT_EQ(members(), kMany);
  // A write that has to wait.
  const std::string big(6 << 20, 'w');
  Awaited<bool> written;
  Reader& reader = *readers.front();
  on_worker([&] {
    const std::array<std::string_view, 1> pieces{big};
    EXPECT_FALSE(reader.stream->write(pieces, [&](ErrorCode error) { written.set(!error); }));
    EXPECT_EQ(worker.stream_lane().members(), kMany - 1);
  });
  EXPECT_EQ(reader.peer.receive(big.size()), big);
  EXPECT_TRUE(written.get());
  send_all("done");
  EXPECT_EQ(members(), kMany);
}

}  // namespace
}  // namespace llm_proxy
