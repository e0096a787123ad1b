import { contract } from './host.contract.ts'
import { nodeHost } from './kit/host-node.ts'

contract(nodeHost)
