/** The Workers host, in workerd. */
import { contract } from './host.contract.ts'
import { workersHost } from './kit/host-workers.ts'

contract(workersHost)
