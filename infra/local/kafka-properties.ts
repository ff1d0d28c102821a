/** Where a local broker listens, and where it keeps its log. */
export interface BrokerPlace {
  /** The address that it binds. */
  bind: string;
  port: number;
  /** The controller's, which only the broker itself uses. */
  controllerPort: number;
  /** The advertised address, `host:port`. */
  advertised: string;
  logDir: string;
}

/**
 * The settings of the local broker: KRaft, one node that is broker and controller, every replicated topic with one
 * copy. Messages up to 8 MB: transactions have 4 MB, their dead letters 64 KB more, and a batch its own head.
 */
export function brokerProperties(place: BrokerPlace): string {
  const maxBytes = 8 * 2 ** 20;
  return Object.entries({
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.quorum.voters": `1@127.0.0.1:${place.controllerPort}`,
    listeners: `PLAINTEXT://${place.bind}:${place.port},CONTROLLER://127.0.0.1:${place.controllerPort}`,
    "advertised.listeners": `PLAINTEXT://${place.advertised}`,
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "log.dirs": place.logDir,
    "default.replication.factor": 1,
    "min.insync.replicas": 1,
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "group.initial.rebalance.delay.ms": 0,
    "auto.create.topics.enable": false,
    "message.max.bytes": maxBytes,
    "replica.fetch.max.bytes": maxBytes,
    "socket.request.max.bytes": 100 * 2 ** 20,
  })
    .map(([name, value]) => `${name}=${value}\n`)
    .join("");
}
