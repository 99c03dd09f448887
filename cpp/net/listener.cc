#include "net/listener.h"

#include <sys/socket.h>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <chrono>

#include "base/log.h"
#include "net/socket_stream.h"
#include "net/worker.h"

namespace llm_proxy {
namespace {

using Acceptor = boost::asio::basic_socket_acceptor<Tcp, IoExecutor>;
using ReusePort = boost::asio::detail::socket_option::boolean<SOL_SOCKET, SO_REUSEPORT>;

constexpr std::chrono::milliseconds kBackOff{100};
constexpr int kPortAttempts = 5;  // to find one port that is free on every address

Result<std::vector<Tcp::endpoint>> listen_addresses(Worker& worker, const std::string& host) {
  using boost::asio::ip::address_v4;
  using boost::asio::ip::address_v6;
  if (host.empty() || host == "*") {
    return std::vector<Tcp::endpoint>{{address_v4::any(), 0}, {address_v6::any(), 0}};
  }
  ErrorCode error;
  boost::asio::ip::basic_resolver<Tcp, IoExecutor> resolver(worker.io().get_executor());
  const auto found = resolver.resolve(host, "", Tcp::resolver::passive, error);
  if (error)
    return Error{ErrorKind::unavailable, "Cannot listen on " + host + ": " + error.message() + "."};
  std::vector<Tcp::endpoint> addresses;
  for (const auto& entry : found) addresses.push_back(entry.endpoint());
  return addresses;
}

ErrorCode open_acceptor(Acceptor& acceptor, const Tcp::endpoint& at, const ListenOptions& options) {
  ErrorCode error;
  const auto step = [&error](auto&& action) {
    if (!error) action();
  };
  acceptor.open(at.protocol(), error);
  step([&] { acceptor.set_option(Acceptor::reuse_address(true), error); });
  if (at.address().is_v6()) {
    step([&] { acceptor.set_option(boost::asio::ip::v6_only(true), error); });
  }
  // Without SO_REUSEPORT while it binds, the first listener fails if the port is taken, even by
  // another of our kind; with it afterwards, our other workers may join.
  if (options.share_port) {
    step([&] { acceptor.set_option(ReusePort(true), error); });
  }
  step([&] { acceptor.bind(at, error); });
  step([&] { acceptor.set_option(ReusePort(true), error); });
  step([&] { acceptor.listen(options.backlog, error); });
  if (error) {
    ErrorCode ignored;
    acceptor.close(ignored);
  }
  return error;
}

// The machine lacks this kind of address; another one may do.
bool lacks_family(const ErrorCode& error) {
  return error == boost::asio::error::address_family_not_supported ||
         error == boost::system::errc::address_not_available;
}

// The process is short of something that closing connections will give back.
bool is_shortage(const ErrorCode& error) {
  using namespace boost::system::errc;
  return error == too_many_files_open || error == too_many_files_open_in_system ||
         error == no_buffer_space || error == not_enough_memory;
}

}  // namespace

struct Listener::State : std::enable_shared_from_this<Listener::State> {
  // One listening address; `back_off` is armed while it must not accept.
  struct Address {
    Address(State& state, Acceptor acceptor)
        : acceptor(std::move(acceptor)), back_off([&state, this] { state.accept(*this); }) {}
    Acceptor acceptor;
    Deadline back_off;
  };

  State(Worker& worker, OnAccept on_accept) : worker(worker), on_accept(std::move(on_accept)) {}

  ErrorCode open(const std::vector<Tcp::endpoint>& at, const ListenOptions& options,
                 std::uint16_t& port) {
    ErrorCode last;
    for (Tcp::endpoint endpoint : at) {
      endpoint.port(port);
      Acceptor acceptor(worker.io().get_executor());
      last = open_acceptor(acceptor, endpoint, options);
      if (last && lacks_family(last)) continue;
      if (last) return last;
      ErrorCode ignored;
      port = acceptor.local_endpoint(ignored).port();
      addresses.push_back(std::make_unique<Address>(*this, std::move(acceptor)));
    }
    return addresses.empty() ? last : ErrorCode();
  }

  void accept(Address& address) {
    if (closed) return;
    address.acceptor.async_accept(
        [self = shared_from_this(), &address](const ErrorCode& error, Socket socket) {
          self->on_accepted(address, error, std::move(socket));
        });
  }

  void on_accepted(Address& address, const ErrorCode& error, Socket socket) {
    if (closed) return;
    if (!error) {
      ErrorCode gone;
      const Tcp::endpoint from = socket.remote_endpoint(gone);
      if (!gone) on_accept(make_stream<SocketStream>(worker, std::move(socket), from));
    } else if (is_shortage(error)) {
      // Every listener of every worker meets the same shortage, ten times a second.
      static LogLimit shortage;
      if (const auto kept_back = shortage.pass(worker.now())) {
        log(LogLevel::warning, "cannot accept connections: ", error.message(),
            "; this is tried again until some are closed (", *kept_back,
            " more times since it was last said; ulimit -n raises the limit of open files)");
      }
      worker.deadlines(kBackOff).arm(address.back_off);
      return;
    }
    accept(address);
  }

  void close() {
    closed = true;
    ErrorCode ignored;
    for (const auto& address : addresses) {
      address->acceptor.close(ignored);
      address->back_off.disarm();
    }
  }

  Worker& worker;
  OnAccept on_accept;
  std::vector<std::unique_ptr<Address>> addresses;
  std::uint16_t port = 0;
  bool closed = false;
};

Result<std::unique_ptr<Listener>> Listener::open(Worker& worker, const ListenOptions& options,
                                                 OnAccept on_accept) {
  Result<std::vector<Tcp::endpoint>> at = listen_addresses(worker, options.host);
  if (!at) return std::move(at).error();
  auto state = std::make_shared<State>(worker, std::move(on_accept));
  ErrorCode error;
  for (int attempt = 0; attempt < (options.port == 0 ? kPortAttempts : 1); ++attempt) {
    state->addresses.clear();
    state->port = options.port;
    error = state->open(*at, options, state->port);
    if (!error) break;
  }
  if (error) {
    return Error{ErrorKind::unavailable, "Cannot listen on " + options.host + ":" +
                                             std::to_string(options.port) + ": " + error.message() +
                                             "."};
  }
  worker.post([state] {
    for (const auto& address : state->addresses) state->accept(*address);
  });
  return std::unique_ptr<Listener>(new Listener(std::move(state)));
}

Listener::~Listener() {
  close();
}

std::uint16_t Listener::port() const {
  return state_->port;
}

void Listener::close() {
  state_->close();
}

}  // namespace llm_proxy
