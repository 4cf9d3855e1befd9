/** Every bound of the device's door. All are per node. */
export interface SignallingLimits {
  /** Longest frame from a device, octets; a longer one closes the socket with 1009. */
  readonly maxFrameBytes: number;
  /** From open socket to a complete `hello`, milliseconds. */
  readonly helloTimeoutMs: number;
  /** The server pings this often, milliseconds; a socket silent for two of them is closed. */
  readonly pingIntervalMs: number;
  /** Unanswered requests of one socket. */
  readonly outstanding: number;
  /** Unsent octets of one socket; more closes it as a slow reader. */
  readonly bufferedBytes: number;
  /** Frames (and pings) of one socket: sustained rate and burst. */
  readonly framesPerSecond: number;
  readonly frameBurst: number;
  /** Refusals for the rate in a row, after which the socket is closed. */
  readonly rateRefusals: number;
  /** Sockets of one device: the newest wins. */
  readonly socketsPerDevice: number;
  /** Connections of one address (IPv6: /64) that have not completed a `hello`. */
  readonly strangersPerAddress: number;
  /** Connections in all. */
  readonly connections: number;
  /** How long a device without leases stays registered after its hello, milliseconds. */
  readonly registrationMs: number;
  /** How long after its token's expiry a socket may still ask for leases and extensions, milliseconds. */
  readonly tokenGraceMs: number;
  /** How long a request waits for the owner relay, milliseconds. */
  readonly ownerTimeoutMs: number;
  /** HTTP request headers and whole requests (against slow handshakes), milliseconds. */
  readonly headersTimeoutMs: number;
  readonly requestTimeoutMs: number;
  /** From a close frame to the end of the connection, milliseconds. */
  readonly closeTimeoutMs: number;
}

export const SIGNALLING_LIMITS: SignallingLimits = {
  maxFrameBytes: 16_384,
  helloTimeoutMs: 10_000,
  pingIntervalMs: 25_000,
  outstanding: 16,
  bufferedBytes: 262_144,
  framesPerSecond: 20,
  frameBurst: 60,
  rateRefusals: 100,
  socketsPerDevice: 1,
  strangersPerAddress: 64,
  connections: 20_000,
  registrationMs: 3_600_000,
  tokenGraceMs: 60_000,
  ownerTimeoutMs: 2_000,
  headersTimeoutMs: 5_000,
  requestTimeoutMs: 10_000,
  closeTimeoutMs: 2_000,
};
