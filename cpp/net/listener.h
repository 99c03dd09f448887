#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/callback.h"
#include "base/result.h"
#include "net/byte_stream.h"

namespace llm_proxy {

class Worker;

struct ListenOptions {
  std::string host = "127.0.0.1";  // a name or an address; "" or "*": every address of this machine
  std::uint16_t port = 0;          // 0: any free one, see Listener::port()
  int backlog = 1024;
  bool share_port =
      false;  // true: join others that listen there (our other workers); false: fail if taken
};

// Accepts connections for one worker, on each address its host has.
//
// Owned by the server; opened on the starting thread before the worker runs, or on the worker. Each
// worker has its own, on the same port (SO_REUSEPORT): the first opens with share_port = false, so
// that an address in use is an Error, the others with the first one's port and share_port = true.
// Errors while accepting never end it: out of file descriptors it waits a little and goes on.
//
//   open ─► accepting ─► closed
class Listener {
 public:
  using OnAccept = Callback<void(StreamPtr)>;

  static Result<std::unique_ptr<Listener>> open(Worker& worker, const ListenOptions& options,
                                                OnAccept on_accept);
  ~Listener();

  std::uint16_t port() const;
  // On the worker: accepts nothing more; connections not yet accepted are refused.
  void close();

 private:
  struct State;
  explicit Listener(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

}  // namespace llm_proxy
